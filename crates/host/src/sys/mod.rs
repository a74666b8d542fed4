//! The only home of `unsafe`: what no safe crate offers.
#![allow(unsafe_code)]

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
