//! A daemon that was just started: it has the state open, and does not listen yet.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::terminal;
use crate::this_host::STATE_DIR;

/// How long to wait: opening the state takes milliseconds, also with a large journal.
const LONGEST: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// While a daemon has this host's state open, waits until it `listens`. Returns whether there is none.
pub fn wait(listens: impl Fn() -> bool) -> bool {
    let mut until = None;
    while is_daemon_opening() {
        let until = *until.get_or_insert_with(|| {
            terminal::note("note: the daemon is starting; waiting until it listens");
            Instant::now() + LONGEST
        });
        if Instant::now() >= until {
            return true;
        }
        std::thread::sleep(PAUSE);
        if listens() {
            return false;
        }
    }
    true
}

/// Whether a daemon has the state open. Looked up and not locked: a lock, however short, could stop the daemon's start. Only
/// root sees the state; for others the error says how to look.
fn is_daemon_opening() -> bool {
    let Ok(lock) = Path::new(STATE_DIR).join("lock").metadata() else { return false };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    holder(&locks, lock.ino()).is_some_and(|pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == b"serve")
    })
}

/// The process with an flock(2) on this inode (proc_locks(5)).
fn holder(locks: &str, inode: u64) -> Option<u32> {
    let end = format!(":{inode}");
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, file, ..] if file.ends_with(&end) => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_its_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 700 fd:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 812 fd:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 900 fd:01:78 0 EOF\n";
        assert_eq!(holder(locks, 77), Some(812));
        assert_eq!(holder(locks, 7), None);
        assert_eq!(holder(locks, 78), None, "it only waits");
        assert_eq!(holder("", 77), None);
    }
}
