//! The only home of `unsafe`: what no safe crate offers.
#![allow(unsafe_code)]

pub mod bpf;

use std::io;

/// The signals that would end a worker in the middle of a step, with the daemon that started it.
const ENDING: [libc::c_int; 5] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE];

/// Ignores the signals by which a service manager or a terminal ends a daemon together with its children.
///
/// # Errors
/// The kernel's; there is no reason for any.
pub fn ignore_ending_signals() -> io::Result<()> {
    for signal in ENDING {
        // SAFETY: `SIG_IGN` installs no handler, so no code of ours can be run by a signal.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Closes what was inherited beside input, output and errors: a worker outlives its daemon, and must not keep sockets
/// or files open that somebody gave to the daemon without `FD_CLOEXEC`.
///
/// Call it before anything is opened.
pub fn close_inherited() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the caller has opened nothing yet, so no value of this process owns a descriptor from 3 on.
    // By number: not every C library has the function. A kernel without it (before 5.9) leaves them open.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
}
