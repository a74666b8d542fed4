//! `handover instance console`: the guest's serial console in this terminal.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use api::client::{Message, Receiver, Sender, segment};
use clap::Args;
use model::Refusal;
use tokio::sync::mpsc;

use super::raw::{Ends, Raw, unusable};
use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::terminal;

/// Ctrl-], as in telnet(1) and virsh(1).
const ESCAPE: u8 = 0x1d;

/// The size of a read from standard input, in bytes.
const CHUNK: usize = 4096;

/// Connect to the guest's serial console; Ctrl-] disconnects
#[derive(Debug, Args)]
#[command(after_help = "\
What is typed goes to the guest, also Ctrl-C. Press Enter to see its prompt. The output before the connection is in \
`handover instance logs`, which stays complete. If standard input is not a terminal, it is typed into the console, and the \
output goes on until the machine ends.")]
pub struct Console {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// Disconnect the client that is connected
    #[arg(long)]
    force: bool,
}

impl Console {
    pub fn run(self, connection: &Connection) -> Done {
        let what = format!("connect to the console of {}", self.instance);
        let path = format!("/instances/{}/console?force={}", segment(&self.instance), self.force);
        let reason = connection
            .talk(async |client| {
                let (sender, receiver) = client.socket(&path).await?;
                terminal::note(&format!(
                    "connected to the console of {}; Ctrl-] disconnects",
                    self.instance
                ));
                // Watched before the terminal is changed, so that no signal leaves it so.
                let ends = Ends::watch()?;
                let raw = Raw::set()?;
                let reason = connect(sender, receiver, ends).await;
                drop(raw);
                reason
            })
            .map_err(Failure::to(what))?;
        // The guest's last line may have no end.
        let end = if reason.is_empty() {
            "disconnected".into()
        } else {
            format!("disconnected: {reason}")
        };
        terminal::report("\n");
        terminal::note(&end);
        Ok(())
    }
}

/// Passes bytes on until one side ends. Returns the daemon's reason.
async fn connect(
    mut sender: Sender,
    mut receiver: Receiver,
    mut ends: Ends,
) -> Result<String, Refusal> {
    let mut typed = typed();
    loop {
        tokio::select! {
            message = receiver.next() => match message? {
                Message::Bytes(bytes) => show(&bytes).map_err(|error| unusable(&error))?,
                Message::Text(text) => show(text.as_bytes()).map_err(|error| unusable(&error))?,
                Message::Closed(reason) => return Ok(reason),
            },
            // The terminal is restored before the process ends.
            _ = ends.next() => return Ok(String::new()),
            Some(typed) = typed.recv() => match typed {
                Typed::Bytes(bytes) => sender.send(bytes.into()).await?,
                Typed::Escape => {
                    sender.close().await;
                    return Ok(String::new());
                }
            },
        }
    }
}

fn show(bytes: &[u8]) -> io::Result<()> {
    let mut out = terminal::raw();
    out.write_all(bytes)?;
    out.flush()
}

/// What is read from standard input.
enum Typed {
    Bytes(Vec<u8>),
    Escape,
}

/// Reads standard input in a thread of its own, which ends with the process: a read from a terminal cannot be cancelled.
fn typed() -> mpsc::Receiver<Typed> {
    let (sender, receiver) = mpsc::channel(16);
    let escapes = io::stdin().is_terminal();
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut chunk = [0; CHUNK];
        while let Ok(length) = input.read(&mut chunk)
            && length > 0
        {
            let bytes = chunk.get(..length).unwrap_or_default();
            let (bytes, escape) = if escapes { until_escape(bytes) } else { (bytes, false) };
            let sent = sender.blocking_send(Typed::Bytes(bytes.to_vec()));
            if escape {
                let _ = sender.blocking_send(Typed::Escape);
            }
            if escape || sent.is_err() {
                return;
            }
        }
    });
    receiver
}

/// The bytes before the escape character, and whether there is one.
fn until_escape(bytes: &[u8]) -> (&[u8], bool) {
    let mut parts = bytes.splitn(2, |byte| *byte == ESCAPE);
    (parts.next().unwrap_or_default(), parts.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_escape_character_is_not_typed() {
        assert_eq!(until_escape(b"ls\n"), (&b"ls\n"[..], false));
        assert_eq!(until_escape(b"ls\x1dq"), (&b"ls"[..], true));
        assert_eq!(until_escape(b"\x1d"), (&b""[..], true));
    }
}
