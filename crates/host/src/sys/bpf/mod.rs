//! bpf(2): maps, and programs of cgroups.
//!
//! The structures are prefixes of `union bpf_attr` and of the kernel's answers (include/uapi/linux/bpf.h): the kernel
//! accepts a shorter structure, and treats missing fields as zeros.

mod map;
mod program;

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, RawFd};

pub use map::{Map, next_map};
pub use program::{Hook, Instruction, Program};

/// `BPF_OBJ_NAME_LEN`: the longest name and its zero byte.
const NAME: usize = 16;

/// bpf(2).
///
/// # Safety
/// Buffers that the attributes point to must be as large as the command requires, and live until it returns.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    let size = size_of_val(attributes);
    // SAFETY: the kernel reads and writes at most `size` bytes of the attributes themselves, which are plain numbers;
    // the caller guarantees the buffers that they point to.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size) };
    match RawFd::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A name in the kernel's format.
fn padded(name: &str) -> io::Result<[u8; NAME]> {
    let mut padded = [0; NAME];
    if name.len() >= NAME {
        return Err(invalid());
    }
    padded.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    Ok(padded)
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// A descriptor for the attributes; an open one is never negative.
fn number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().unsigned_abs()
}
