//! This terminal, passed through to a guest: raw mode, its input and its size.

use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;

use api::TerminalSize;
use model::{Code, Refusal};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// The size of a read from standard input, in bytes.
const CHUNK: usize = 32 << 10;

/// The terminal passes on each key at once, and interprets none; until it is dropped.
pub struct Raw(Option<Termios>);

impl Raw {
    /// Does nothing if standard input is no terminal.
    pub fn set() -> Result<Self, Refusal> {
        let input = io::stdin();
        if !input.is_terminal() {
            return Ok(Self(None));
        }
        let set = || {
            let before = tcgetattr(input.as_fd())?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(input.as_fd(), OptionalActions::Now, &raw)?;
            Ok(Self(Some(before)))
        };
        set().map_err(|error: io::Error| unusable(&error))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, before);
        }
    }
}

/// The signals that end this process: the terminal is restored before.
pub struct Ends([Signal; 3]);

impl Ends {
    /// Watches them from now on.
    pub fn watch() -> Result<Self, Refusal> {
        let watch = |kind| signal(kind).map_err(|error| unusable(&error));
        let (interrupt, terminate) =
            (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?);
        Ok(Self([interrupt, terminate, watch(SignalKind::hangup())?]))
    }

    /// Waits for one; its exit status, as shells have it.
    pub async fn next(&mut self) -> u8 {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
            _ = hangup.recv() => 129,
        }
    }
}

/// The size of the terminal, if there is one.
pub fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0)
        .then(|| TerminalSize { rows: size.ws_row.into(), cols: size.ws_col.into() })
}

/// Changes of the terminal's size.
pub fn changes_of_size() -> Result<Signal, Refusal> {
    signal(SignalKind::window_change()).map_err(|error| unusable(&error))
}

/// Reads standard input in a thread of its own, which ends with the process: a read from a terminal cannot be cancelled.
pub fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = input.read(&mut chunk) {
            let bytes = chunk.get(..length).unwrap_or_default().to_vec();
            if sender.blocking_send(bytes).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The refusal for a terminal that cannot be used.
pub fn unusable(error: &io::Error) -> Refusal {
    Refusal::new(
        Code::Internal,
        format!("this terminal cannot be used: {error}"),
        "use another terminal; `handover instance logs --follow` shows the console's output",
    )
}
