//! VFIO's hot reset: the kernel resets a whole bus or slot for the owner of all its functions. The file `reset` in sysfs
//! does that only for a function that is alone on its bus (`pci_parent_bus_reset` in drivers/pci/pci.c).
//!
//! Numbers and structures: include/uapi/linux/vfio.h.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `_IO(VFIO_TYPE, VFIO_BASE + n)`, with `VFIO_TYPE` `;` and `VFIO_BASE` 100.
const fn number(n: u32) -> u32 {
    ((b';' as u32) << 8) | (100 + n)
}

const SET_IOMMU: u32 = number(2);
const GROUP_SET_CONTAINER: u32 = number(4);
const GROUP_GET_DEVICE_FD: u32 = number(6);
const DEVICE_PCI_HOT_RESET: u32 = number(13);

/// `VFIO_TYPE1v2_IOMMU`.
const TYPE1V2: libc::c_ulong = 3;

/// Puts a group into a container.
///
/// # Errors
/// The kernel's.
pub fn join(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> io::Result<()> {
    let container: libc::c_int = container.as_raw_fd();
    // SAFETY: the kernel reads one int from the pointer, which is valid during the call.
    let outcome = unsafe {
        libc::ioctl(group.as_raw_fd(), request(GROUP_SET_CONTAINER), &raw const container)
    };
    done(outcome).map(drop)
}

/// Gives a container with groups an IOMMU: without one no device can be opened.
///
/// # Errors
/// The kernel's.
pub fn set_iommu(container: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the argument is a number.
    done(unsafe { libc::ioctl(container.as_raw_fd(), request(SET_IOMMU), TYPE1V2) }).map(drop)
}

/// Opens a device of a group by its address.
///
/// # Errors
/// The kernel's.
pub fn device(group: BorrowedFd<'_>, address: &str) -> io::Result<OwnedFd> {
    let name = CString::new(address).map_err(io::Error::other)?;
    // SAFETY: the kernel reads a string from the pointer, which ends with a zero and is valid during the call.
    let outcome =
        unsafe { libc::ioctl(group.as_raw_fd(), request(GROUP_GET_DEVICE_FD), name.as_ptr()) };
    let fd = done(outcome)?;
    // SAFETY: the kernel has just made this descriptor for us, and no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Resets the bus or slot of a device. `groups` are those of all functions on it.
///
/// # Errors
/// The kernel's.
pub fn hot_reset(device: BorrowedFd<'_>, groups: &[BorrowedFd<'_>]) -> io::Result<()> {
    // `struct vfio_pci_hot_reset`: argsz, flags, count, and the descriptors as 32-bit numbers.
    let count = u32::try_from(groups.len()).map_err(io::Error::other)?;
    let size = count.checked_add(3).and_then(|words| words.checked_mul(4));
    let size = size.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut words: Vec<u32> = vec![size, 0, count];
    words.extend(groups.iter().map(|group| group.as_raw_fd().cast_unsigned()));
    // SAFETY: the kernel reads as many bytes from the pointer as `argsz` says, which is the length of `words`.
    let outcome =
        unsafe { libc::ioctl(device.as_raw_fd(), request(DEVICE_PCI_HOT_RESET), words.as_ptr()) };
    done(outcome).map(drop)
}

/// The type of the request differs between C libraries.
#[allow(clippy::useless_conversion, clippy::cast_possible_wrap, reason = "its type differs")]
const fn request(number: u32) -> libc::Ioctl {
    number as libc::Ioctl
}

fn done(outcome: libc::c_int) -> io::Result<libc::c_int> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// The numbers of include/uapi/linux/vfio.h.
    #[test]
    fn requests_have_their_numbers() {
        assert_eq!(
            [SET_IOMMU, GROUP_SET_CONTAINER, GROUP_GET_DEVICE_FD, DEVICE_PCI_HOT_RESET],
            [0x3b66, 0x3b68, 0x3b6a, 0x3b71]
        );
    }

    #[test]
    fn a_file_that_is_no_group_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let errno = |outcome: io::Result<()>| outcome.unwrap_err().raw_os_error();
        assert_eq!(errno(join(file.as_fd(), file.as_fd())), Some(libc::ENOTTY));
        assert_eq!(errno(set_iommu(file.as_fd())), Some(libc::ENOTTY));
        assert_eq!(errno(device(file.as_fd(), "0000:01:00.0").map(drop)), Some(libc::ENOTTY));
        assert_eq!(errno(hot_reset(file.as_fd(), &[file.as_fd()])), Some(libc::ENOTTY));
    }
}
