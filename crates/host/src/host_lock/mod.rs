//! The lock on a host: one process at a time changes its devices, whatever directories it was given.
//!
//! Two locks make it up, and a process takes both as far as it can:
//!
//! - **A BPF map** ([`map`]). Every process of this kernel sees it, in whatever container, but it takes `CAP_SYS_ADMIN` and
//!   bpf(2).
//! - **`flock` on `/sys/bus/pci/drivers_probe`** ([`file`]). It takes no more than the right to write that file, which a process
//!   needs to give devices to drivers; but a container with a network namespace of its own has another sysfs.
//!
//! Both are needed: a daemon that may use bpf(2) and a command that may not would not see each other by the map. Neither
//! hangs off an option, neither can be removed, a user without rights can take neither, and the kernel drops both when their
//! process dies: they belong to descriptors that are closed on exec, so no worker and no machine keeps them.
//!
//! Of a made-up host (`--root DIR`), the directory itself is locked, and nothing of this machine's.

mod file;
mod map;

use std::path::Path;
use std::time::Duration;

use model::{HostError, HostLock, HostLockError, LockHolder};
use rustix::io::Errno;

use crate::problem;
use crate::root::Root;

/// The map's name. A Handover of any version looks for this one.
const NAME: &str = "handover_host";

/// How long a lock may outlast the process that had it: a process that it was starting has its descriptors until it
/// executes its program, and another that looks for the map has that open for a moment.
const PASSING: Duration = Duration::from_millis(250);

/// Why one of the two locks cannot be had.
#[derive(Debug)]
enum Failure {
    /// Another process has it.
    Held(LockHolder),
    /// This process may not use this lock, or the kernel does not have it.
    Unavailable(Errno),
    /// The kernel failed.
    Failed(Errno),
}

/// Both locks, as far as they can be had. The file's is released first: the next process takes the map's first.
#[derive(Debug)]
struct Taken {
    _file: Option<file::FileLock>,
    _map: Option<map::MapLock>,
}

impl HostLock for Taken {}

/// Takes the lock on a host.
///
/// # Errors
/// Where another process has it, or the kernel fails.
pub fn take(root: &Root, state_dir: &Path) -> Result<Box<dyn HostLock>, HostLockError> {
    if !root.is_host() {
        let file = available(file::take(root), root, ".")?;
        return Ok(Box::new(Taken { _file: file.ok(), _map: None }));
    }
    // The map first: it says most of who has it.
    let map = available(map::take(NAME, &map::Record::of_this_process(state_dir)), root, NAME)?;
    let file = available(file::take(root), root, file::PROBE)?;
    match (&map, &file) {
        (Err(map), Ok(_)) => tracing::warn!(
            "bpf(2) is refused ({}): a Handover in a container with a network namespace of its own would not be seen",
            problem::words(*map)
        ),
        (Err(map), Err(file)) => tracing::warn!(
            "this host cannot be locked against another Handover: bpf(2) is refused ({}), and so is /{} ({})",
            problem::words(*map),
            file::PROBE,
            problem::words(*file)
        ),
        (Ok(_), _) => {}
    }
    Ok(Box::new(Taken { _file: file.ok(), _map: map.ok() }))
}

/// A lock, or the reason why there is none here.
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
                HostError::File { action: "lock the host by".into(), path, reason, errno }
            } else {
                problem::file(root, "lock", path, errno)
            };
            Err(error.into())
        }
    }
}
