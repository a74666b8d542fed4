//! Signals as something to read.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// All signals of this process, to be read from a descriptor.
#[derive(Debug)]
pub struct Signals(File);

impl Signals {
    /// Blocks all signals of this thread, and of the threads and processes that it makes, and opens the descriptor.
    pub fn block() -> io::Result<Self> {
        let mut all = MaybeUninit::uninit();
        // SAFETY: `all` has room for a set of signals.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: `sigfillset` has written it.
        let all = unsafe { all.assume_init() };
        set_mask(&all)?;
        // SAFETY: the set is valid; -1 asks for a new descriptor.
        let descriptor =
            unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nothing else has it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self(File::from(descriptor)))
    }

    /// The next signal's number, if one is there.
    pub fn next(&mut self) -> Option<i32> {
        // `struct signalfd_siginfo` has 128 bytes and begins with the number.
        let mut information = [0; 128];
        self.0.read_exact(&mut information).ok()?;
        let (number, _) = information.split_first_chunk()?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets all signals of this thread through.
pub fn unblock_signals() -> io::Result<()> {
    let mut none = MaybeUninit::uninit();
    // SAFETY: `none` has room for a set of signals.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `sigemptyset` has written it.
    let none = unsafe { none.assume_init() };
    set_mask(&none)
}

fn set_mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is valid, and the old one is not asked for.
    let failed = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

/// Sends a signal to all processes but this one and process 1.
pub fn kill_all(signal: i32) {
    // SAFETY: `kill` has no requirement on memory.
    unsafe { libc::kill(-1, signal) };
}

/// Sends a signal by its number, also a real-time signal, to a process.
pub fn kill_one(process: rustix::process::Pid, signal: i32) {
    // SAFETY: `kill` has no requirement on memory.
    unsafe { libc::kill(process.as_raw_nonzero().get(), signal) };
}

/// Sends a signal by its number to a group of processes.
pub fn kill_group(group: rustix::process::Pid, signal: i32) {
    // SAFETY: `kill` has no requirement on memory.
    unsafe { libc::kill(-group.as_raw_nonzero().get(), signal) };
}
