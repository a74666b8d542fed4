//! Commands in guests, and passwords of their users: checks requests, and waits for the end of a command.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::{Exec, ExecResult, SetPassword};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::guest_agent::GuestCommand;
use engine::{Engine, GuestProcess};
use model::{Refusal, format_duration, parse_duration};

use crate::refusals::invalid;

/// How long a command is waited for, if the request does not say it, and the most.
const USUAL: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The pauses between two questions: most commands end soon.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The most words of a command.
const MOST_WORDS: usize = 1024;
/// The longest word, in characters.
const LONGEST_WORD: usize = 4096;
/// The most variables of an environment.
const MOST_VARIABLES: usize = 1024;

/// A command that was started in a guest.
#[derive(Debug)]
pub struct Running {
    process: GuestProcess,
    until: Instant,
    pause: Duration,
}

/// Starts a command in the guest of an instance.
///
/// # Errors
/// `invalid_request`; those of [`engine::Instances::run_in_guest`].
pub fn begin(engine: &Engine, key: &str, wanted: Exec) -> Result<Running, Refusal> {
    let timeout = wanted.timeout.as_deref().map(parse_duration).transpose()?.unwrap_or(USUAL);
    if timeout > LONGEST {
        let message = format!("{} is longer than a day", format_duration(timeout));
        return Err(invalid(message, "use 24h or less"));
    }
    let process = engine.instances().run_in_guest(key, &command(wanted)?)?;
    Ok(Running { process, until: Instant::now() + timeout, pause: FIRST_PAUSE })
}

impl Running {
    /// How the command has ended, or that it has not ended in time; `None` while it is waited for.
    ///
    /// # Errors
    /// Those of [`engine::Instances::guest_exit`].
    pub fn poll(&self, engine: &Engine) -> Result<Option<ExecResult>, Refusal> {
        let pid = self.process.pid();
        let Some(exit) = engine.instances().guest_exit(&self.process)? else {
            let timed_out = Instant::now() >= self.until;
            let result = ExecResult { pid, timed_out, ..ExecResult::default() };
            return Ok(timed_out.then_some(result));
        };
        Ok(Some(ExecResult {
            pid,
            exit_code: exit.status,
            signal: exit.signal,
            timed_out: false,
            stdout: BASE64.encode(exit.stdout),
            stderr: BASE64.encode(exit.stderr),
            stdout_truncated: exit.stdout_truncated,
            stderr_truncated: exit.stderr_truncated,
        }))
    }

    /// The pause before the next question.
    pub fn pause(&mut self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause.min(left)
    }
}

/// Sets the password of a user of the guest of an instance.
///
/// # Errors
/// `invalid_request`; those of [`engine::Instances::set_guest_password`].
pub fn set_password(engine: &Engine, key: &str, wanted: &SetPassword) -> Result<(), Refusal> {
    let SetPassword { user, password_hash } = wanted;
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let is_name = user.starts_with(is_first) && user.chars().all(is_of_name) && user.len() <= 32;
    if !is_name {
        let message = format!("{user:?} is not the name of a user");
        return Err(invalid(
            message,
            "use letters, digits, `_`, `.` and `-`, 32 characters at most",
        ));
    }
    model::check_password_hash(password_hash)?;
    engine.instances().set_guest_password(key, user, password_hash)
}

/// Checks the words of a command.
pub(crate) fn expect_words(words: &[&String]) -> Result<(), Refusal> {
    if words.first().is_none_or(|word| word.is_empty()) {
        return Err(invalid("the command is empty", "give a program, and its arguments"));
    }
    let is_fine = |word: &&String| !word.contains('\0') && word.chars().count() <= LONGEST_WORD;
    if words.len() > MOST_WORDS || !words.iter().all(is_fine) {
        return Err(invalid(
            format!(
                "the command has more than {MOST_WORDS} words, or one of them has a zero byte or more than \
                 {LONGEST_WORD} characters"
            ),
            "give a script as standard input: `input` in REST, `--input` on the command line",
        ));
    }
    Ok(())
}

/// The variables of a command's environment, each as `NAME=VALUE`.
pub(crate) fn environment(env: BTreeMap<String, String>) -> Result<Vec<String>, Refusal> {
    let is_variable = |(name, value): (&String, &String)| {
        !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
    };
    if env.len() > MOST_VARIABLES || !env.iter().all(is_variable) {
        return Err(invalid(
            format!(
                "more than {MOST_VARIABLES} variables, or one with an empty name, a `=` in its name or a zero byte"
            ),
            "give each variable as a name and a value",
        ));
    }
    Ok(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn command(wanted: Exec) -> Result<GuestCommand, Refusal> {
    let Exec { command: words, env, input, .. } = wanted;
    expect_words(&words.iter().collect::<Vec<_>>())?;
    let input = BASE64.decode(input.unwrap_or_default()).map_err(|error| {
        invalid(
            format!("`input` is not base64: {error}"),
            "encode it with padding, as base64(1) does",
        )
    })?;
    Ok(GuestCommand { words, environment: environment(env.unwrap_or_default())?, input })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(words: &[&str]) -> Exec {
        Exec { command: words.iter().map(|&word| word.to_owned()).collect(), ..Exec::default() }
    }

    #[test]
    fn an_environment_is_names_and_values() {
        let with = |name: &str, value: &str| {
            let env = Some([(name.to_owned(), value.to_owned())].into());
            command(Exec { env, ..exec(&["env"]) })
        };
        assert_eq!(with("A", "1").unwrap().environment, ["A=1"]);
        assert!(command(exec(&["env"])).unwrap().environment.is_empty());
        for (name, value) in [("", "1"), ("A=B", "1"), ("A", "\0")] {
            assert!(with(name, value).is_err(), "{name}");
        }
    }

    #[test]
    fn commands_that_no_guest_can_run_are_refused() {
        let long = "x".repeat(LONGEST_WORD + 1);
        for wrong in [&[][..], &[""], &["a", "\0"], &["a", &long]] {
            assert!(command(exec(wrong)).is_err());
        }
        assert_eq!(command(exec(&["grep", ""])).unwrap().words, ["grep", ""]);
        let input = Some("AP8=".to_owned());
        assert_eq!(command(Exec { input, ..exec(&["cat"]) }).unwrap().input, [0, 0xff]);
        assert!(command(Exec { input: Some("AP8".into()), ..exec(&["cat"]) }).is_err());
    }
}
