//! A VMM's control socket: how we reach it, and what goes wrong with it. What is said over it is the VMM's own protocol.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::watch::Watch;

const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// What goes wrong with a VMM's control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The VMM closed the connection, or ended.
    #[error("it closed the connection")]
    Closed,
    /// It did not answer this command in time.
    #[error("it did not answer `{0}` in time")]
    Deadline(String),
    /// Its answer to this command is not as it should be.
    #[error("its answer to `{0}` cannot be read: {1}")]
    Malformed(String, String),
    /// It refused this command.
    #[error("it refused `{0}`: {1}")]
    Refused(String, String),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The control socket of one machine's VMM. Only root reaches it.
#[derive(Debug)]
pub struct Control<'a> {
    socket: PathBuf,
    /// The process, where it was just started and may not have executed the VMM yet.
    starting: Option<&'a Watch>,
}

impl<'a> Control<'a> {
    /// That of a VMM that is being started.
    pub(super) const fn starting(socket: PathBuf, watch: &'a Watch) -> Self {
        Self { socket, starting: Some(watch) }
    }

    /// That of a VMM that runs.
    pub(super) const fn running(socket: PathBuf) -> Self {
        Self { socket, starting: None }
    }

    /// Connects. Where the VMM is just being started, its socket is waited for while its process lives.
    ///
    /// # Errors
    /// Where it cannot be reached, or ended.
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
