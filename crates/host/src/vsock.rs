//! Connections to programs in guests, by vsock(7).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_error};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as begin, socket_with};
use rustix::time::Timespec;

use crate::sys::vsock::Address;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// The kernel has no vsock.
    #[error(
        "this host's kernel has no vsock: load it with `modprobe vhost_vsock`, then start the machine again"
    )]
    Unsupported,
    /// No machine has this number.
    #[error("no machine with the vsock number {0} runs")]
    NoMachine(u32),
    /// Nothing listens on the port.
    #[error(
        "nothing listens on port {0} of the guest's vsock: its agent has not started yet, or has ended"
    )]
    NotListening(u32),
    /// The guest does not answer.
    #[error("the guest did not answer on its vsock within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Another error.
    #[error("cannot connect to the guest's vsock: {0}")]
    Other(#[source] io::Error),
}

/// A connection. Two threads can use its two directions: see [`VsockStream::try_clone`].
#[derive(Debug)]
pub struct VsockStream(File);

/// Connects to a port of a machine, and returns the socket. A guest can delay this up to `within`.
///
/// # Errors
/// A [`VsockError`], in words.
pub fn open(machine: u32, port: u32, within: Duration) -> io::Result<OwnedFd> {
    let stream = connect(machine, port, within).map_err(io::Error::other)?;
    Ok(stream.0.into())
}

/// Connects to a port of a machine. A guest can delay this up to `within`.
///
/// # Errors
/// See [`VsockError`].
pub fn connect(machine: u32, port: u32, within: Duration) -> Result<VsockStream, VsockError> {
    let named = |errno| match errno {
        Errno::AFNOSUPPORT => VsockError::Unsupported,
        Errno::NODEV | Errno::NETUNREACH | Errno::HOSTUNREACH => VsockError::NoMachine(machine),
        Errno::CONNREFUSED | Errno::CONNRESET => VsockError::NotListening(port),
        Errno::TIMEDOUT => VsockError::Timeout(within),
        other => VsockError::Other(other.into()),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None);
    let socket = socket.map_err(named)?;
    match begin(&socket, &Address { machine, port }) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            let wait = Timespec::try_from(within).ok();
            let mut one = [PollFd::new(&socket, PollFlags::OUT)];
            if poll(&mut one, wait.as_ref()).map_err(named)? == 0 {
                return Err(VsockError::Timeout(within));
            }
            socket_error(&socket).map_err(named)?.map_err(named)?;
        }
        Err(errno) => return Err(named(errno)),
    }
    ioctl_fionbio(&socket, false).map_err(named)?;
    Ok(VsockStream(File::from(socket)))
}

impl VsockStream {
    /// The same connection, for another thread.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// How long a read may wait; none: for ever. A guest can stop to speak at any time.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, time)?)
    }

    /// How long a write may wait; none: for ever. A guest can stop to listen at any time.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub fn set_write_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Send, time)?)
    }

    /// Ends both directions, also for a thread that waits in a read.
    ///
    /// # Errors
    /// The connection is gone already.
    pub fn shut_down(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both)?)
    }
}

impl Read for VsockStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for VsockStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Machines have numbers from 3 on; none has the highest. Where the kernel has no vsock, that is said.
    #[test]
    fn a_machine_that_does_not_run_is_named() {
        let machine = 0xffff_fff0;
        match connect(machine, 1, Duration::from_millis(300)) {
            Err(VsockError::Unsupported | VsockError::Timeout(_)) => {}
            Err(VsockError::NoMachine(number)) => assert_eq!(number, machine),
            other => panic!("{other:?}"),
        }
    }
}
