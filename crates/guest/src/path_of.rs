//! Paths of this process's own things, which another process of ours can open.

use std::os::fd::{AsFd, AsRawFd};

/// The executable, also when its file has been removed.
pub const EXECUTABLE: &str = "/proc/self/exe";

/// The executable of the init, for the kernel.
pub const FIRST_PROCESS: &str = "/proc/1/exe";

/// A descriptor of this process, for a child that is root.
pub fn descriptor(descriptor: &impl AsFd) -> String {
    let process = rustix::process::getpid().as_raw_nonzero();
    format!("/proc/{process}/fd/{}", descriptor.as_fd().as_raw_fd())
}
