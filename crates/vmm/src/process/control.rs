//! Connecting to a VMM's control socket, and its errors. The protocol is the VMM's own.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::reach;
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
    pub(crate) const fn running(socket: PathBuf) -> Self {
        Self { socket, starting: None }
    }

    /// Connects. For a VMM that is being started, waits for the socket while the process lives. A VMM that is stuck, and
    /// whose queue of connections is full (`EAGAIN`, unix(7)), is waited for until the deadline.
    ///
    /// # Errors
    /// If the connection fails, or the VMM has exited.
    pub fn connect(&self, deadline: Instant) -> Result<UnixStream, ControlError> {
        loop {
            match (reach(&self.socket), self.starting) {
                (Ok(stream), _) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                (Err(Errno::AGAIN), None) => {}
                (Err(error), None) => return Err(io::Error::from(error).into()),
                (Err(_), Some(watch)) => {
                    if watch.wait(Some(Duration::ZERO))?.is_some() {
                        return Err(ControlError::Closed);
                    }
                }
            }
            if Instant::now() > deadline {
                return Err(ControlError::Deadline("the connection".into()));
            }
            thread::sleep(BETWEEN_TRIES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    use rustix::net::{bind, listen, socket_with};

    #[test]
    fn a_vmm_whose_queue_is_full_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor");
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let listener = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listener, 1).unwrap();
        let mut queue = Vec::new();
        while let Ok(client) = reach(&path) {
            queue.push(client);
            assert!(queue.len() < 100);
        }
        let connect = || {
            let soon = Instant::now() + Duration::from_millis(20);
            Control::running(path.clone()).connect(soon).unwrap_err()
        };
        let error = connect();
        assert!(matches!(error, ControlError::Deadline(_)), "{error}");
        drop(listener);
        // A process that another test starts has the listener, too, until it executes its program.
        let until = Instant::now() + Duration::from_secs(20);
        while !matches!(connect(), ControlError::Io(_)) {
            assert!(Instant::now() < until, "nothing listens");
        }
    }
}
