//! The lock for processes that may write sysfs: `flock` on a sysfs file.
//!
//! sysfs is one file system per network namespace (fs/sysfs/mount.c: `sysfs_init_fs_context` keys it by that),
//! regardless of how often and where it is mounted, and a lock belongs to the inode: all processes of a network
//! namespace share it. The file cannot be removed, and only root may open it (`BUS_ATTR_WO`, mode 0200), so no other
//! user can block the lock. Opening it for writing has no effect; no byte is written.

use std::time::Instant;

use model::LockHolder;
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Failure, PASSING};
use crate::root::Root;

/// The file, below the root.
pub const PROBE: &str = "sys/bus/pci/drivers_probe";

/// The locks of all visible processes. Always of the running system, also for another root: its lock is held here.
const LOCKS: &str = "/proc/locks";

/// The lock, until dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: OwnedFd,
}

/// Takes the lock.
pub fn take(root: &Root) -> Result<FileLock, Failure> {
    let file = open(root).map_err(|errno| match errno {
        // Without this file no driver can be bound either.
        Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            Failure::Unavailable(errno)
        }
        errno => Failure::Failed(errno),
    })?;
    let until = Instant::now() + PASSING;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(FileLock { _file: file }),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(PASSING / 25);
            }
            Err(Errno::WOULDBLOCK) => {
                let pid = holder(&file, &std::fs::read_to_string(LOCKS).unwrap_or_default());
                return Err(Failure::Held(LockHolder { pid, ..LockHolder::default() }));
            }
            Err(errno) => return Err(Failure::Failed(errno)),
        }
    }
}

fn open(root: &Root) -> Result<OwnedFd, Errno> {
    let top = root.handle()?;
    let none = Mode::empty();
    if root.is_host() {
        rustix::fs::openat(top, PROBE, OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC, none)
    } else {
        rustix::fs::openat(top, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, none)
    }
}

/// The process that has a file locked, from the kernel's list (proc_locks(5)), which lacks processes of other PID
/// namespaces.
fn holder(file: &OwnedFd, locks: &str) -> Option<u32> {
    let stat = rustix::fs::fstat(file).ok()?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let device = format!("{major:02x}:{minor:02x}");
    let of_inode = locks.lines().filter_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 15551 00:16:3694 0 EOF; a waiting one has an arrow before its kind.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = words.as_slice() else { return None };
        let (device, inode) = place.rsplit_once(':')?;
        (inode.parse() == Ok(stat.st_ino)).then_some((device, pid.parse::<u32>().ok()?))
    });
    let found: Vec<(&str, u32)> = of_inode.collect();
    let exact = found.iter().find(|(at, _)| *at == device);
    // btrfs reports another device for files than for locks.
    let only = if found.len() == 1 { found.first() } else { None };
    exact.or(only).map(|(_, pid)| *pid).filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_a_root_at_a_time_and_the_error_names_it() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(place.path()).unwrap();
        let again = Root::open(place.path()).unwrap();
        let lock = take(&root).unwrap();
        match take(&again) {
            Err(Failure::Held(holder)) => assert_eq!(holder.pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        let elsewhere = tempfile::tempdir().unwrap();
        take(&Root::open(elsewhere.path()).unwrap()).unwrap();
        drop(lock);
        take(&again).unwrap();
    }

    #[test]
    fn odd_lines_of_locks_name_no_process() {
        let place = tempfile::tempdir().unwrap();
        let file = open(&Root::open(place.path()).unwrap()).unwrap();
        let inode = rustix::fs::fstat(&file).unwrap().st_ino;
        for text in [
            "",
            "\n\n",
            "1: FLOCK",
            "1: FLOCK ADVISORY WRITE 5 nothing 0 EOF",
            "1: FLOCK ADVISORY WRITE 5 00:16:99999999999999999999 0 EOF",
            &format!("1: FLOCK ADVISORY WRITE -1 00:16:{inode} 0 EOF"),
            &format!("1: FLOCK ADVISORY WRITE 0 00:16:{inode} 0 EOF"),
            &format!("1: -> FLOCK ADVISORY WRITE 5 00:16:{inode} 0 EOF"),
            &format!("1: POSIX ADVISORY WRITE 5 00:16:{inode} 0 EOF"),
        ] {
            assert_eq!(holder(&file, text), None, "{text}");
        }
        let other_device = format!("1: FLOCK  ADVISORY  WRITE 5 ff:ff:{inode} 0 EOF\n");
        assert_eq!(holder(&file, &other_device), Some(5));
        assert_eq!(holder(&file, &other_device.repeat(2)), None, "it could be either");
    }
}
