//! The only module with `unsafe`: system calls that no safe crate offers.
#![allow(unsafe_code)]

pub mod bpf;
pub mod tun;
pub mod vfio;
pub mod vsock;

use std::io;

/// The signals that would terminate a worker in the middle of a step, together with its daemon.
const ENDING: [libc::c_int; 5] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE];

/// Ignores the signals by which a service manager or a terminal terminates a daemon together with its children.
///
/// # Errors
/// The kernel's; none is expected.
pub fn ignore_ending_signals() -> io::Result<()> {
    for signal in ENDING {
        // SAFETY: `SIG_IGN` installs no handler, so no code runs on a signal.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Closes all inherited descriptors except standard input, output and error: a worker outlives its daemon, and must not
/// keep sockets or files open that the daemon inherited without `FD_CLOEXEC`.
///
/// Call it before anything is opened.
pub fn close_inherited() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the caller has opened nothing yet, so no value of this process owns a descriptor from 3 on.
    // By number: not every C library has the function. A kernel without it (before 5.9) keeps them open.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
}
