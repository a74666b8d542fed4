//! The netlink socket of the kernel's uevents (`NETLINK_KOBJECT_UEVENT`, netlink(7)).

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrAny, SocketFlags, SocketType, bind, recvfrom, socket_with,
    sockopt,
};

use super::Uevent;

/// The multicast group to which the kernel sends. Group 2 has udevd's messages, in another format.
const KERNEL_GROUP: u32 = 1;

/// The kernel's port (netlink(7)). No process can have it.
const KERNEL_PORT: u32 = 0;

/// A message has at most 2 KiB of properties (`UEVENT_BUFFER_SIZE` in include/linux/kobject.h), and a path before them.
const LONGEST: usize = 8 << 10;

/// The size of the receive buffer. A message takes about 1.5 KiB of it; 256 virtual functions created at once send
/// about 1500 messages. Only waiting messages use memory.
const BACKLOG: usize = 16 << 20;

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A uevent of the kernel.
    Uevent(Uevent),
    /// Messages were lost because the buffer was full: everything must be read again.
    Lost,
}

/// The socket of uevents.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Starts listening. All later uevents are received, even if they are read late.
    ///
    /// # Errors
    /// The kernel's, for instance in a sandbox without netlink.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(KOBJECT_UEVENT);
        let fd = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
        // Exceeding the host's limit needs CAP_NET_ADMIN; without it, as much as allowed. A full buffer is detected.
        if sockopt::set_socket_recv_buffer_size_force(&fd, BACKLOG).is_err() {
            sockopt::set_socket_recv_buffer_size(&fd, BACKLOG)?;
        }
        bind(&fd, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self { fd })
    }

    /// The next message, without waiting; `None` if there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        let mut buffer = [0; LONGEST];
        loop {
            let received = recvfrom(&self.fd, &mut buffer, RecvFlags::TRUNC);
            let (length, sender) = match received {
                Ok((_, length, sender)) => (length, sender),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                // netlink(7): the buffer was full, and a message was dropped.
                Err(Errno::NOBUFS) => return Ok(Some(Received::Lost)),
                Err(errno) => return Err(errno.into()),
            };
            if !is_kernel(sender) {
                continue;
            }
            // Longer than any message of the kernel: not reliable.
            let Some(message) = buffer.get(..length) else { return Ok(Some(Received::Lost)) };
            if let Some(event) = Uevent::parse(message) {
                return Ok(Some(Received::Uevent(event)));
            }
        }
    }

    /// Waits until there is something to receive, without a limit for ever; `false` after the limit.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<bool> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut ready = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut ready, limit.as_ref()) {
            Ok(count) => Ok(count > 0),
            // As if something had arrived: the caller receives, and waits again.
            Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether a message comes from the kernel. A process with `CAP_NET_ADMIN` can send to this socket too, from its own
/// port.
fn is_kernel(sender: Option<SocketAddrAny>) -> bool {
    let sender = sender.and_then(|address| SocketAddrNetlink::try_from(address).ok());
    sender.is_some_and(|sender| sender.pid() == KERNEL_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendFlags, getsockname, sendto};

    const FORGED: &[u8] = b"remove@/devices/pci0000:00/0000:00:02.0\0SUBSYSTEM=pci\0";

    #[test]
    fn a_message_of_another_sender_is_refused() {
        assert!(is_kernel(Some(SocketAddrNetlink::new(0, KERNEL_GROUP).into())));
        assert!(!is_kernel(Some(SocketAddrNetlink::new(4711, KERNEL_GROUP).into())));
        assert!(!is_kernel(None));
        let unix = rustix::net::SocketAddrUnix::new("/x").unwrap();
        assert!(!is_kernel(Some(unix.into())));
    }

    /// The same with real sockets. Only root may send to others.
    #[test]
    fn a_forged_message_is_not_received() {
        let socket = Socket::open().unwrap();
        let own = SocketAddrNetlink::try_from(getsockname(&socket).unwrap()).unwrap();
        let forger = Socket::open().unwrap();
        let sent =
            sendto(&forger, FORGED, SendFlags::empty(), &SocketAddrNetlink::new(own.pid(), 0));
        match sent {
            Ok(length) => assert_eq!(length, FORGED.len()),
            Err(errno) => assert_eq!(errno, Errno::PERM),
        }
        let forged = Received::Uevent(Uevent::parse(FORGED).unwrap());
        while let Some(received) = socket.receive().unwrap() {
            assert_ne!(received, forged);
        }
    }

    #[test]
    fn waiting_ends_at_the_limit() {
        let socket = Socket::open().unwrap();
        while socket.wait(Some(Duration::ZERO)).unwrap() {
            socket.receive().unwrap();
        }
    }
}
