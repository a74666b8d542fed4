//! Connecting to a VMM's control socket, and its errors. The protocol is the VMM's own.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::watch::Watch;

const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// An error on a VMM's control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The VMM closed the connection, or exited.
    #[error("the VMM closed the connection")]
    Closed,
    /// The VMM did not answer this command in time.
    #[error("timed out while waiting for the VMM's answer to `{0}`")]
    Deadline(String),
    /// The VMM's answer to this command is invalid.
    #[error("invalid answer of the VMM to `{0}`: {1}")]
    Malformed(String, String),
    /// The VMM refused this command.
    #[error("the VMM refused `{0}`: {1}")]
    Refused(String, String),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The control socket of one machine's VMM. Only root can connect to it.
#[derive(Debug)]
pub struct Control<'a> {
    socket: PathBuf,
    /// The process, if it was just started and may not have executed the VMM yet.
    starting: Option<&'a Watch>,
}

impl<'a> Control<'a> {
    /// The socket of a VMM that is being started.
    pub(super) const fn starting(socket: PathBuf, watch: &'a Watch) -> Self {
        Self { socket, starting: Some(watch) }
    }

    /// The socket of a running VMM.
    pub(super) const fn running(socket: PathBuf) -> Self {
        Self { socket, starting: None }
    }

    /// Connects. For a VMM that is being started, waits for the socket while the process lives.
    ///
    /// # Errors
    /// If the connection fails, or the VMM has exited.
    pub fn connect(&self, deadline: Instant) -> Result<UnixStream, ControlError> {
        loop {
            match (UnixStream::connect(&self.socket), self.starting) {
                (Ok(stream), _) => return Ok(stream),
                (Err(error), None) => return Err(error.into()),
                (Err(_), Some(watch)) => {
                    if watch.wait(Some(Duration::ZERO))?.is_some() {
                        return Err(ControlError::Closed);
                    }
                    if Instant::now() > deadline {
                        return Err(ControlError::Deadline("the connection".into()));
                    }
                    thread::sleep(BETWEEN_TRIES);
                }
            }
        }
    }
}
