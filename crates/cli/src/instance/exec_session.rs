//! A command in a guest that is connected to this terminal.

use std::io::{self, Write as _};

use api::client::{Message, Receiver, Sender, segment};
use api::{ExecControl, ExecEnd, ExecStart, STDERR};
use model::{Code, Refusal};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::raw::{self, Ends, Raw};
use crate::connection::Connection;
use crate::terminal;

/// Runs a command and passes its streams on; its exit status.
pub fn run(
    connection: &Connection,
    instance: &str,
    start: &ExecStart,
    interactive: bool,
) -> Result<u8, Refusal> {
    let path = format!("/instances/{}/exec", segment(instance));
    connection.talk(async |client| {
        let (mut sender, receiver) = client.socket(&path).await?;
        sender.tell(start).await?;
        // Watched before the terminal is changed, so that no signal leaves it so.
        let ends = Ends::watch()?;
        let raw = if start.tty && interactive { Some(Raw::set()?) } else { None };
        let status = pass_on(sender, receiver, ends, start.tty, interactive).await;
        drop(raw);
        status
    })
}

async fn pass_on(
    sender: Sender,
    receiver: Receiver,
    mut ends: Ends,
    tty: bool,
    interactive: bool,
) -> Result<u8, Refusal> {
    let sizes = raw::changes_of_size()?;
    let typed = match interactive {
        true => raw::input(),
        // Without input, the command reads the end at once.
        false => mpsc::channel(1).1,
    };
    // A command that does not read its input keeps none of the others waiting.
    tokio::select! {
        status = read(receiver) => status,
        status = ends.next() => Ok(status),
        () = feed(sender, typed, sizes, tty) => Ok(1),
    }
}

/// Shows what the command writes, until the daemon tells its end.
async fn read(mut receiver: Receiver) -> Result<u8, Refusal> {
    loop {
        match receiver.next().await? {
            Message::Bytes(bytes) => show(&bytes)?,
            Message::Text(text) => return ended(&text),
            Message::Closed(reason) => return Err(lost(&reason)),
        }
    }
}

/// Sends input and sizes of the terminal, without end: if the daemon takes no more, it says why to who reads.
async fn feed(
    mut sender: Sender,
    mut typed: mpsc::Receiver<Vec<u8>>,
    mut sizes: Signal,
    tty: bool,
) {
    let mut has_input = true;
    loop {
        let sent = tokio::select! {
            bytes = typed.recv(), if has_input => match bytes {
                Some(bytes) => sender.send(bytes.into()).await,
                None => {
                    has_input = false;
                    sender.tell(&ExecControl { end_input: true, resize: None }).await
                }
            },
            _ = sizes.recv(), if tty => match raw::size() {
                Some(size) => {
                    sender.tell(&ExecControl { end_input: false, resize: Some(size) }).await
                }
                None => Ok(()),
            },
            else => std::future::pending().await,
        };
        if sent.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Shows output, as it is: the command's streams are those of this program.
fn show(message: &[u8]) -> Result<(), Refusal> {
    let Some((mark, bytes)) = message.split_first() else { return Ok(()) };
    if *mark == STDERR {
        terminal::raw_error(bytes);
        return Ok(());
    }
    let mut out = terminal::raw();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| unwritable(&error))
}

/// The exit status that the daemon tells.
fn ended(text: &str) -> Result<u8, Refusal> {
    let end: ExecEnd = serde_json::from_str(text).map_err(|error| {
        let message = format!("the daemon's answer is not understood: {error}");
        Refusal::new(Code::Internal, message, "use the same version of both")
    })?;
    if let Some(error) = end.error {
        return Err(error.into());
    }
    if end.timed_out {
        terminal::note("note: the command has not ended in time, and was killed");
    }
    Ok(u8::try_from(end.exit_code).unwrap_or(u8::MAX))
}

fn lost(reason: &str) -> Refusal {
    let why = if reason.is_empty() { "it closed the connection" } else { reason };
    Refusal::new(
        Code::AgentLost,
        format!("the daemon does not tell how the command ended: {why}"),
        "look in the guest what it has done",
    )
}

fn unwritable(error: &io::Error) -> Refusal {
    let message = format!("cannot write the command's output: {error}");
    Refusal::new(Code::Internal, message, "check where standard output goes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_that_of_the_command() {
        assert_eq!(ended(r#"{"exitCode":3}"#).unwrap(), 3);
        assert_eq!(ended(r#"{"exitCode":-1}"#).unwrap(), 255);
        assert_eq!(ended(r#"{"exitCode":124,"timed_out":true}"#).unwrap(), 124);
        let refused =
            r#"{"exitCode":127,"error":{"code":"agent_refused","message":"no such file"}}"#;
        assert_eq!(ended(refused).unwrap_err().code, Code::AgentRefused);
        assert!(ended("hello").is_err());
    }
}
