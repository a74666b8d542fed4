//! Sockets of the family vsock: `rustix` has the family, but not its addresses.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, listen as start, socket_with,
};

/// `VMADDR_CID_ANY`: all addresses of this machine.
const ANY: u32 = u32::MAX;
/// `VMADDR_CID_HOST`: the host.
const HOST: u32 = 2;

/// An address: the machine and the port.
struct Address {
    machine: u32,
    port: u32,
}

// SAFETY: `with_sockaddr` passes a whole `sockaddr_vm`, which lives during the call, and its length.
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let address = libc::sockaddr_vm {
            svm_family: AddressFamily::VSOCK.as_raw(),
            svm_reserved1: 0,
            svm_port: self.port,
            svm_cid: self.machine,
            svm_zero: [0; 4],
        };
        f(ptr::from_ref(&address).cast(), SIZE)
    }
}

const SIZE: SocketAddrLen = {
    let size = size_of::<libc::sockaddr_vm>();
    assert!(size == 16, "the size of sockaddr_vm is part of the kernel's interface");
    16
};

/// A port that listens.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// Listens on a port.
pub fn listen(port: u32) -> io::Result<Listener> {
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &Address { machine: ANY, port })?;
    start(&socket, 64)?;
    Ok(Listener(socket))
}

impl Listener {
    /// Waits for a connection of the host. Others, such as one of a process of this machine, are closed.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        loop {
            let connection = accept_with(&self.0, SocketFlags::CLOEXEC)?;
            if peer(&connection)? == HOST {
                return Ok(connection);
            }
        }
    }
}

/// The machine at the other end.
fn peer(connection: &OwnedFd) -> io::Result<u32> {
    let mut address = libc::sockaddr_vm {
        svm_family: 0,
        svm_reserved1: 0,
        svm_port: 0,
        svm_cid: ANY,
        svm_zero: [0; 4],
    };
    let mut length = SIZE;
    // SAFETY: the address has room for `length` bytes, and both live during the call.
    let failed = unsafe {
        libc::getpeername(
            connection.as_fd().as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut length,
        )
    };
    if failed == 0 { Ok(address.svm_cid) } else { Err(io::Error::last_os_error()) }
}
