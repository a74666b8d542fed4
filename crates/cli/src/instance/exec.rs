//! `handover instance exec`: a command in the guest, by its agent.

use std::io::{IsTerminal as _, Read as _};
use std::time::{Duration, Instant};

use api::client::{Client, segment};
use api::{Exec as Request, ExecResult, ExecStart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use model::{Code, Refusal, format_duration};

use super::{exec_session, raw};
use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::{output, terminal, values};

/// The largest input: a request has 1 MiB at most, and this is sent in base64.
const MOST_INPUT: u64 = 512 << 10;

/// How long to wait for a command's end by default.
const USUAL: Duration = Duration::from_secs(60);

/// The pause between two tries to reach an agent.
const PAUSE: Duration = Duration::from_secs(1);

/// The exit status for a command that did not end in time, as that of timeout(1).
const TIMED_OUT: u8 = 124;

/// Run a command in the guest, by its agent: qemu-guest-agent, or Handover's own in a container image
#[derive(Debug, Args)]
#[command(after_help = "\
Prints what the command wrote when it has ended, and exits with its status: 128 and the signal's number if a signal ended it, \
124 if it did not end in time. At most 16 MiB of each output are kept.

With -i, -t, --user or --workdir, the command is connected to this terminal: its output is printed as it is written, without a \
bound, it takes the time that it takes, and it is hung up when this program ends. This needs a container image.")]
pub struct Exec {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// Connect this command's standard input
    #[arg(short, long, conflicts_with = "input")]
    interactive: bool,
    /// Give the command a terminal; with -i, this one
    #[arg(short, long, conflicts_with = "input")]
    tty: bool,
    /// User that the command runs as; by default that of the image's command
    #[arg(long, value_name = "USER[:GROUP]", conflicts_with = "input")]
    user: Option<String>,
    /// Directory in which the command starts; by default that of the image's command
    #[arg(long, value_name = "DIR", conflicts_with = "input")]
    workdir: Option<String>,
    /// How long to wait for the command's end, such as 30s or 2h: 60s by default, and without a bound for a connected one, which is
    /// killed then; others go on in the guest
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// How long to wait until the guest's agent answers, such as 2m; by default it must answer at once
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = values::duration)]
    wait: Duration,
    /// Variable of the command's environment (repeatable); without any, it has that of the agent
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = values::variable)]
    env: Vec<(String, String)>,
    /// Send this command's standard input, 512 KiB at most
    #[arg(long)]
    input: bool,
    /// The command and its arguments, also after `--`; no shell reads them
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

impl Exec {
    pub fn run(self, connection: &Connection) -> Done {
        let what = format!("run a command in {}", self.instance);
        if self.is_connected() {
            return self.connected(connection, what);
        }
        let result = self.send(connection).map_err(Failure::to(what))?;
        if connection.json() {
            output::json(&result)?;
        } else {
            print(&result)?;
        }
        if result.timed_out {
            let time = format_duration(self.time());
            let then = match result.pid {
                Some(pid) => format!("it goes on as process {pid} of the guest"),
                None => "the guest was told to end it".to_owned(),
            };
            terminal::note(&format!("note: the command has not ended within {time}; {then}"));
        }
        match status(&result) {
            0 => Ok(()),
            status => Err(Failure::Answered(status)),
        }
    }

    /// Whether the command is connected to this terminal.
    const fn is_connected(&self) -> bool {
        self.interactive || self.tty || self.user.is_some() || self.workdir.is_some()
    }

    fn time(&self) -> Duration {
        self.timeout.unwrap_or(USUAL)
    }

    fn connected(self, connection: &Connection, what: String) -> Done {
        if connection.json() {
            let message =
                "a connected command's output is printed as it is written, and not as JSON";
            let remedy = "leave out --json, or -i, -t, --user and --workdir";
            return Err(Failure::to(what)(Refusal::new(Code::InvalidRequest, message, remedy)));
        }
        let seconds = |time: Duration| i64::try_from(time.as_millis().div_ceil(1000)).ok();
        let size = raw::size().filter(|_| self.tty);
        let start = ExecStart {
            command: self.command,
            tty: self.tty,
            env: (!self.env.is_empty()).then(|| self.env.into_iter().collect()),
            cwd: self.workdir,
            timeout: self.timeout.and_then(seconds),
            wait_for_agent: seconds(self.wait),
            rows: size.map(|size| size.rows),
            cols: size.map(|size| size.cols),
            user: self.user,
            separate: true,
        };
        let status = exec_session::run(connection, &self.instance, &start, self.interactive);
        match status.map_err(Failure::to(what))? {
            0 => Ok(()),
            status => Err(Failure::Answered(status)),
        }
    }

    fn send(&self, connection: &Connection) -> Result<ExecResult, Refusal> {
        let input = if self.input { Some(BASE64.encode(input()?)) } else { None };
        let env = (!self.env.is_empty()).then(|| self.env.iter().cloned().collect());
        let timeout = Some(format_duration(self.time()));
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
        assert_eq!(values::variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(values::variable("=1").is_err() && values::variable("A").is_err());
    }
}
