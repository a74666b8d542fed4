//! Tap interfaces (Documentation/networking/tuntap.rst).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `IFF_TUN_EXCL` in include/uapi/linux/if_tun.h: an existing interface of that name is an error.
const EXCLUSIVE: libc::c_int = 0x8000;

/// Makes a tap interface of this name, whose packets have virtio's header, as QEMU expects. It goes with the descriptor, which
/// is one of `/dev/net/tun`.
///
/// # Errors
/// The kernel's; `InvalidInput` for a name that is too long.
pub fn make_tap(tun: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut interface = [0; libc::IFNAMSIZ];
    let text = interface.get_mut(..name.len()).filter(|_| name.len() < libc::IFNAMSIZ);
    let text = text.ok_or(io::ErrorKind::InvalidInput)?;
    for (to, from) in text.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | EXCLUSIVE;
    let flags = u16::try_from(flags).map_err(io::Error::other)?.cast_signed();
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags };
    let mut request = libc::ifreq { ifr_name: interface, ifr_ifru };
    // SAFETY: the kernel reads and writes one `ifreq` at the pointer (`__tun_chr_ioctl` in drivers/net/tun.c), which is valid
    // during the call.
    let done = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
