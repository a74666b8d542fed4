//! `handover instance exec`: a command in the guest, by its agent.

use std::io::{IsTerminal as _, Read as _};
use std::time::{Duration, Instant};

use api::client::{Client, segment};
use api::{Exec as Request, ExecResult};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use model::{Code, Refusal, format_duration};

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::{output, terminal, values};

/// The largest input: a request has 1 MiB at most, and this is sent in base64.
const MOST_INPUT: u64 = 512 << 10;

/// The pause between two tries to reach an agent.
const PAUSE: Duration = Duration::from_secs(1);

/// The exit status for a command that did not end in time, as that of timeout(1).
const TIMED_OUT: u8 = 124;

/// Run a command in the guest, which must run qemu-guest-agent
#[derive(Debug, Args)]
#[command(after_help = "\
Prints what the command wrote when it has ended, and exits with its status: 128 and the signal's number if a signal ended it, \
124 if it did not end in time. The guest keeps at most 16 MiB of each output.")]
pub struct Exec {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// How long to wait for the command's end, such as 30s or 2h; it then goes on in the guest
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = values::duration)]
    timeout: Duration,
    /// How long to wait until the guest's agent answers, such as 2m; by default it must answer at once
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = values::duration)]
    wait: Duration,
    /// Variable of the command's environment (repeatable); without any, it has that of the agent
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Send this command's standard input, 512 KiB at most
    #[arg(long)]
    input: bool,
    /// The command and its arguments, after `--`; no shell reads them
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    pub fn run(self, connection: &Connection) -> Done {
        let what = format!("run a command in {}", self.instance);
        let result = self.send(connection).map_err(Failure::to(what))?;
        if connection.json() {
            output::json(&result)?;
        } else {
            print(&result)?;
        }
        if result.timed_out {
            terminal::note(&format!(
                "note: the command has not ended within {}; it goes on as process {} of the guest",
                format_duration(self.timeout),
                result.pid
            ));
        }
        match status(&result) {
            0 => Ok(()),
            status => Err(Failure::Answered(status)),
        }
    }

    fn send(&self, connection: &Connection) -> Result<ExecResult, Refusal> {
        let input = if self.input { Some(BASE64.encode(input()?)) } else { None };
        let env = (!self.env.is_empty()).then(|| self.env.iter().cloned().collect());
        let timeout = Some(format_duration(self.timeout));
        let request = Request { command: self.command.clone(), env, input, timeout };
        let path = format!("/instances/{}/exec", segment(&self.instance));
        connection.talk(async |client| patiently(&client, &path, &request, self.wait).await)
    }
}

/// Sends the request until an agent answers.
async fn patiently(
    client: &Client,
    path: &str,
    request: &Request,
    patience: Duration,
) -> Result<ExecResult, Refusal> {
    let until = Instant::now() + patience;
    let mut is_said = false;
    loop {
        match client.post(path, Some(request)).await {
            // With this code, the command has not started.
            Err(refusal) if refusal.code == Code::AgentSilent && Instant::now() < until => {
                if !is_said {
                    terminal::note("note: waiting until the guest's agent answers");
                    is_said = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// Prints what the command wrote, as it is.
fn print(result: &ExecResult) -> Done {
    for (name, text, is_cut) in [
        ("output", &result.stdout, result.stdout_truncated),
        ("error output", &result.stderr, result.stderr_truncated),
    ] {
        let bytes = BASE64.decode(text).unwrap_or_default();
        if name == "output" {
            output::raw(&bytes)?
        } else {
            terminal::raw_error(&bytes)
        }
        if is_cut {
            let kept = model::shown::bytes(bytes.len() as u64);
            output::warning(&format!("the command's {name} is cut off after {kept}"));
        }
    }
    Ok(())
}

/// The exit status of this program for that of the command, as shells have it.
fn status(result: &ExecResult) -> u8 {
    let status = match (result.exit_code, result.signal) {
        _ if result.timed_out => return TIMED_OUT,
        (Some(code), _) => code,
        (None, Some(signal)) => signal.saturating_add(128),
        (None, None) => 255,
    };
    // Windows has longer ones.
    u8::try_from(status).unwrap_or(255)
}

fn input() -> Result<Vec<u8>, Refusal> {
    let refused =
        |message: String, remedy: &str| Refusal::new(Code::InvalidRequest, message, remedy);
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        terminal::note("note: type the command's input; Ctrl-D ends it");
    }
    let mut bytes = Vec::new();
    let read = stdin.lock().take(MOST_INPUT + 1).read_to_end(&mut bytes);
    read.map_err(|error| {
        refused(format!("cannot read standard input: {error}"), "check where it comes from")
    })?;
    if bytes.len() as u64 > MOST_INPUT {
        return Err(refused(
            format!("standard input has more than {}", model::shown::bytes(MOST_INPUT)),
            "copy larger files by SSH: `handover instance ssh NAME -- 'cat >FILE' <FILE`",
        ));
    }
    Ok(bytes)
}

/// Parses a variable of an environment.
fn variable(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let pair = pair.ok_or("expected a name and a value, such as LANG=C")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_that_of_the_command() {
        let result = |exit_code, signal, timed_out| {
            status(&ExecResult { exit_code, signal, timed_out, ..ExecResult::default() })
        };
        assert_eq!(result(Some(0), None, false), 0);
        assert_eq!(result(Some(3), None, false), 3);
        assert_eq!(result(None, Some(9), false), 137);
        assert_eq!(result(None, None, true), 124);
        assert_eq!(result(Some(-1_073_741_819), None, false), 255);
    }

    #[test]
    fn a_variable_has_a_name() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("=1").is_err() && variable("A").is_err());
    }
}
