//! A command in the guest of a container image, with its streams.

use std::time::Duration;

use api::{ErrorBody, ExecEnd, ExecStart, TerminalSize};
use engine::guest_agent::{CommandResult, ExecEvent, ExecRequest, WindowSize};
use engine::{Closer, Engine, GuestInput, GuestOutput, NotStarted};
use model::{Code, Refusal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{blocking, connect, guest_path, thread};
use crate::exec::{environment, expect_words};

/// How many messages wait for the other side. Each has 64 KiB at most from the guest, and 1 MiB from a client.
const OUTPUTS: usize = 4;
const INPUTS: usize = 2;

/// How long a command may take to end after it was killed. Then its session ends without it.
const KILLED_WITHIN: Duration = Duration::from_secs(2);
/// The exit status of a command that took too long, as that of timeout(1).
const TIMED_OUT: i32 = 124;
/// The longest time that a command can be given: a year is as good as for ever.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// SIGKILL.
const KILL: u8 = 9;

/// The size of a terminal if the client does not tell one.
const USUAL: WindowSize = WindowSize { rows: 24, columns: 80 };

/// What a command does.
#[derive(Debug)]
pub enum Output {
    /// It wrote to standard output.
    Stdout(Vec<u8>),
    /// It wrote to standard error.
    Stderr(Vec<u8>),
    /// It ended. Nothing comes after this.
    Ended(ExecEnd),
}

/// What a client does with a command.
#[derive(Debug)]
pub enum Input {
    /// Gives it input.
    Bytes(Vec<u8>),
    /// Ends its input.
    End,
    /// Changes the size of its terminal.
    Resize(TerminalSize),
    /// Kills it.
    Kill,
}

/// What clients do with a command. What comes before the command has started waits here.
#[derive(Debug)]
pub struct Inputs {
    sender: mpsc::Sender<Input>,
    receiver: mpsc::Receiver<Input>,
}

impl Default for Inputs {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(INPUTS);
        Self { sender, receiver }
    }
}

impl Inputs {
    /// The direction to the command. Full, it waits until the command reads.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<Input> {
        self.sender.clone()
    }
}

/// A command that runs. When this is dropped, the guest hangs up the command.
#[derive(Debug)]
pub struct Session {
    output: mpsc::Receiver<Output>,
    input: mpsc::Sender<Input>,
    /// When it has had its time.
    until: Instant,
    killed: bool,
    _closer: Closer,
}

/// Runs a command in the guest of an instance. Can be dropped before it has started: then it does not start, or is hung up at once.
///
/// # Errors
/// `invalid_request`; those of [`engine::Instances::guest_session`] and [`engine::GuestSession::exec`].
pub async fn open(
    engine: &Engine,
    key: &str,
    start: ExecStart,
    inputs: Inputs,
) -> Result<Session, NotStarted> {
    let seconds = |number: Option<i64>| u64::try_from(number.unwrap_or(0)).unwrap_or(0);
    let wait = Duration::from_secs(seconds(start.wait_for_agent));
    let time = match seconds(start.timeout) {
        0 => LONGEST,
        some => Duration::from_secs(some).min(LONGEST),
    };
    let request = request(start)?;
    let session = connect(engine, key, wait).await?;
    let closer = session.closer()?;
    let (from, to) = blocking(move || session.exec(&request)).await.map_err(NotStarted::from)??;
    let (outputs, output) = mpsc::channel(OUTPUTS);
    let Inputs { sender: input, receiver } = inputs;
    thread(move || read(from, &outputs))?;
    thread(move || write(to, receiver))?;
    Ok(Session { output, input, until: Instant::now() + time, killed: false, _closer: closer })
}

impl Session {
    /// What the command does next. Can be dropped before it has ended, and called again.
    pub async fn next(&mut self) -> Output {
        loop {
            if Instant::now() < self.until {
                match timeout_at(self.until, self.output.recv()).await {
                    Ok(Some(Output::Ended(end))) => return Output::Ended(self.ended(end)),
                    Ok(Some(output)) => return output,
                    Ok(None) => {
                        return Output::Ended(failed(super::unforeseen(&"its reader ended")));
                    }
                    Err(_) => {}
                }
            }
            if self.killed {
                return Output::Ended(self.ended(ExecEnd::default()));
            }
            // A command that does not read its input can fill the queue: then the closed session hangs it up.
            self.killed = true;
            self.until = Instant::now() + KILLED_WITHIN;
            let _ = self.input.try_send(Input::Kill);
        }
    }

    fn ended(&self, end: ExecEnd) -> ExecEnd {
        if !self.killed {
            return end;
        }
        ExecEnd { exit_code: TIMED_OUT, timed_out: true, error: None }
    }
}

/// The end of a command that did not start, or whose session broke off.
#[must_use]
pub fn not_started(failure: NotStarted) -> ExecEnd {
    let NotStarted { refusal, status } = failure;
    ExecEnd { exit_code: status.into(), error: Some(refusal.into()), timed_out: false }
}

fn failed(refusal: Refusal) -> ExecEnd {
    ExecEnd { exit_code: 255, error: Some(refusal.into()), timed_out: false }
}

fn read(mut from: GuestOutput, to: &mpsc::Sender<Output>) {
    loop {
        let output = match from.next_event() {
            Ok(ExecEvent::Stdout(bytes)) => Output::Stdout(bytes),
            Ok(ExecEvent::Stderr(bytes)) => Output::Stderr(bytes),
            Ok(ExecEvent::Exited(result)) => Output::Ended(end(&result)),
            Err(refusal) => Output::Ended(failed(refusal)),
        };
        let is_last = matches!(output, Output::Ended(_));
        if to.blocking_send(output).is_err() || is_last {
            return;
        }
    }
}

fn write(mut to: GuestInput, mut from: mpsc::Receiver<Input>) {
    while let Some(input) = from.blocking_recv() {
        let taken = match input {
            Input::Bytes(bytes) => to.give(&bytes),
            Input::End => to.end(),
            Input::Resize(size) => to.resize(window(size.rows, size.cols)),
            Input::Kill => to.signal(KILL),
        };
        if !taken {
            return;
        }
    }
}

fn end(result: &CommandResult) -> ExecEnd {
    match result.status() {
        Some(status) => ExecEnd { exit_code: status.into(), ..ExecEnd::default() },
        None => {
            let why = result.error.as_deref().unwrap_or("the guest does not say it");
            let why = model::shown::escaped(why).to_string();
            failed(Refusal::new(
                Code::AgentLost,
                format!("how the command ended is not known: {why}"),
                "look in the guest what it has done",
            ))
        }
    }
}

fn request(start: ExecStart) -> Result<ExecRequest, Refusal> {
    let ExecStart { mut command, tty, env, cwd, rows, cols, user, .. } = start;
    if command.is_empty() {
        command.push("/bin/sh".to_owned());
    }
    let user = user.filter(|user| !user.is_empty());
    let cwd = cwd.filter(|dir| !dir.is_empty());
    let words: Vec<&String> = command.iter().chain(&user).collect();
    expect_words(&words)?;
    let size = window(rows.unwrap_or(0), cols.unwrap_or(0));
    Ok(ExecRequest {
        argv: command,
        env: environment(env.unwrap_or_default())?,
        working_dir: cwd.map_or_else(|| Ok(String::new()), |dir| guest_path(&dir))?,
        user,
        terminal: tty.then_some(size),
    })
}

/// The size of a terminal; a usual one in place of zeros.
fn window(rows: u32, columns: u32) -> WindowSize {
    let size = |number: u32, usual: u16| match u16::try_from(number).unwrap_or(u16::MAX) {
        0 => usual,
        some => some,
    };
    WindowSize { rows: size(rows, USUAL.rows), columns: size(columns, USUAL.columns) }
}

/// What a client without [`ExecStart::separate`] is shown of a command that did not start: its terminal can be a raw one.
#[must_use]
pub fn shown(error: &ErrorBody) -> Vec<u8> {
    format!("Error: {}\r\n", model::shown::escaped(&error.message)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_usual() {
        let asked = request(ExecStart { tty: true, ..ExecStart::default() }).unwrap();
        assert_eq!(asked.argv, ["/bin/sh"]);
        assert_eq!(
            (asked.terminal, asked.user, asked.working_dir.as_str()),
            (Some(USUAL), None, "")
        );
        let command = vec!["ls".to_owned()];
        let asked = ExecStart {
            command,
            cwd: Some("srv".into()),
            rows: Some(70_000),
            cols: Some(9),
            ..ExecStart::default()
        };
        let asked = request(asked).unwrap();
        assert_eq!((asked.terminal, asked.working_dir.as_str()), (None, "/srv"));
        assert_eq!(window(70_000, 9), WindowSize { rows: u16::MAX, columns: 9 });
    }

    #[test]
    fn what_no_process_can_have_is_refused() {
        let base = ExecStart::default;
        for wrong in [
            ExecStart { command: vec!["a\0".into()], ..base() },
            ExecStart { cwd: Some("/a/..".into()), ..base() },
            ExecStart { user: Some("\0".into()), ..base() },
            ExecStart { env: Some([("A=B".to_owned(), String::new())].into()), ..base() },
        ] {
            assert!(request(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
