//! Addresses of the socket family vsock: `rustix` has the family, but not its addresses.

use std::ptr;

use rustix::net::AddressFamily;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};

/// An address: the machine (its context identifier) and the port.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// The machine.
    pub machine: u32,
    /// The port.
    pub port: u32,
}

/// The size of `struct sockaddr_vm`, which is part of the kernel's interface (include/uapi/linux/vm_sockets.h).
const SIZE: SocketAddrLen = 16;
const _: () = assert!(size_of::<libc::sockaddr_vm>() == 16, "sockaddr_vm has another size");

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
