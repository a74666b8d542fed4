//! The lock on a host: only one process at a time changes its devices, whatever directories it is configured with.
//!
//! It consists of two locks, and a process takes both if it can:
//!
//! - **A BPF map** ([`map`]). All processes of this kernel see it, in any container, but it needs `CAP_SYS_ADMIN` and
//!   bpf(2).
//! - **`flock` on `/sys/bus/pci/drivers_probe`** ([`mod@file`]). It only needs the right to write that file, which a
//!   process needs for binding drivers anyway; but a container with its own network namespace has another sysfs.
//!
//! Both are needed: a daemon that may use bpf(2) and a command that may not would not see each other by the map.
//! Neither depends on an option, neither can be removed, an unprivileged user can take neither, and the kernel drops
//! both when their process dies: their descriptors are closed on exec, so no worker and no machine keeps them.
//!
//! For a host below another root (`--root DIR`), that directory is locked, and nothing on this machine.

mod file;
mod map;

use std::path::Path;
use std::time::Duration;

use model::{HostError, HostLock, HostLockError, LockHolder};
use rustix::io::Errno;

use crate::problem;
use crate::root::Root;

/// The map's name, the same for all versions of Handover.
const NAME: &str = "handover_host";

/// How long a lock may outlast its process: a child process has its descriptors until it executes its program, and a
/// process that searches the map has it open for a moment.
const PASSING: Duration = Duration::from_millis(250);

/// Why one of the two locks cannot be taken.
#[derive(Debug)]
enum Failure {
    /// Another process has it.
    Held(LockHolder),
    /// This process may not use this lock, or the kernel does not support it.
    Unavailable(Errno),
    /// Any other error.
    Failed(Errno),
}

/// The locks that were taken. The file is released first: the next process takes the map first.
#[derive(Debug)]
struct Taken {
    _file: Option<file::FileLock>,
    _map: Option<map::MapLock>,
}

impl HostLock for Taken {}

/// Takes the lock on a host.
///
/// # Errors
/// If another process has it, or the kernel returns an error.
pub fn take(root: &Root, state_dir: &Path) -> Result<Box<dyn HostLock>, HostLockError> {
    if !root.is_host() {
        let file = available(file::take(root), root, ".")?;
        return Ok(Box::new(Taken { _file: file.ok(), _map: None }));
    }
    // The map first: it has the most information about its holder.
    let map = available(map::take(NAME, &map::Record::of_this_process(state_dir)), root, NAME)?;
    let file = available(file::take(root), root, file::PROBE)?;
    match (&map, &file) {
        (Err(map), Ok(_)) => tracing::warn!(
            "cannot use bpf(2) ({}): a Handover in a container with its own network namespace cannot be detected",
            problem::words(*map)
        ),
        (Err(map), Err(file)) => tracing::warn!(
            "cannot lock this host against another Handover: cannot use bpf(2) ({}), nor /{} ({})",
            problem::words(*map),
            file::PROBE,
            problem::words(*file)
        ),
        (Ok(_), _) => {}
    }
    Ok(Box::new(Taken { _file: file.ok(), _map: map.ok() }))
}

/// A lock, or the reason why this lock is not available.
fn available<T>(
    taken: Result<T, Failure>,
    root: &Root,
    path: &str,
) -> Result<Result<T, Errno>, HostLockError> {
    match taken {
        Ok(lock) => Ok(Ok(lock)),
        Err(Failure::Unavailable(errno)) => Ok(Err(errno)),
        Err(Failure::Held(holder)) => Err(HostLockError::Held(holder)),
        Err(Failure::Failed(errno)) => {
            let error: HostError = if path == NAME {
                let path = format!("the BPF map {NAME}");
                let (reason, errno) = (problem::words(errno), Some(errno.raw_os_error()));
                HostError::File { action: "lock the host with".into(), path, reason, errno }
            } else {
                problem::file(root, "lock", path, errno)
            };
            Err(error.into())
        }
    }
}
