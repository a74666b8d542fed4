//! Processes as the kernel shows them, and the only way in which we wait for one or signal one: by a pidfd whose process
//! was checked after the pidfd was opened, so that a pid that was given to somebody else is never touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{Exit, MachineHandle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal,
    waitid,
};
use uuid::Uuid;

/// The procfs of one root.
#[derive(Clone, Debug)]
pub struct Proc {
    dir: PathBuf,
}

/// What `/proc/PID/stat` says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The process is dead and only waits to be reaped.
    pub dead: bool,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl Proc {
    /// The procfs below `root`.
    pub fn below(root: &Path) -> Self {
        Self { dir: root.join("proc") }
    }

    /// A file of procfs.
    pub fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.dir.join(name))
    }

    /// This boot's id.
    pub fn boot_id(&self) -> io::Result<String> {
        Ok(self.read("sys/kernel/random/boot_id")?.trim().to_owned())
    }

    /// A process, by its number or `self`; `None` where there is none.
    pub fn stat(&self, pid: &str) -> io::Result<Option<Stat>> {
        match self.read(&format!("{pid}/stat")) {
            Ok(text) => parse_stat(&text)
                .map(Some)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed stat")),
            // ESRCH: the process went away between open and read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether that very process lives.
    pub fn lives(&self, handle: &MachineHandle) -> io::Result<bool> {
        if handle.boot_id != self.boot_id()? {
            return Ok(false);
        }
        let stat = self.stat(&handle.pid.to_string())?;
        Ok(stat.is_some_and(|stat| !stat.dead && stat.start_time == handle.start_time))
    }
}

/// Fields 3 and 22 of `stat` (proc_pid_stat(5)). The name in field 2 may hold anything, also blanks and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(Stat { dead: matches!(state, "Z" | "X"), start_time })
}

/// One process that is watched.
#[derive(Debug)]
pub struct Watch {
    handle: MachineHandle,
    pidfd: OwnedFd,
    exit: Mutex<Option<Exit>>,
}

impl Watch {
    /// Watches a child of this process that nobody has reaped.
    pub fn of_child(proc: &Proc, id: Uuid, pid: u32) -> io::Result<Self> {
        let pidfd = open(pid)?.ok_or(Errno::SRCH)?;
        let stat = proc.stat(&pid.to_string())?.ok_or(Errno::SRCH)?;
        let boot_id = proc.boot_id()?;
        let handle = MachineHandle { id, pid, start_time: stat.start_time, boot_id };
        Ok(Self { handle, pidfd, exit: Mutex::new(None) })
    }

    /// Watches a process that was started earlier; `None` where it is gone.
    pub fn of_running(proc: &Proc, handle: &MachineHandle) -> io::Result<Option<Self>> {
        if handle.boot_id != proc.boot_id()? {
            return Ok(None);
        }
        let Some(pidfd) = open(handle.pid)? else { return Ok(None) };
        // Only now: the pidfd holds on to one process, and this tells whether it is the right one.
        let stat = proc.stat(&handle.pid.to_string())?;
        let same = stat.is_some_and(|stat| stat.start_time == handle.start_time);
        Ok(same.then(|| Self { handle: handle.clone(), pidfd, exit: Mutex::new(None) }))
    }

    /// Which process it is.
    pub const fn handle(&self) -> &MachineHandle {
        &self.handle
    }

    /// Waits until the process has ended; `None` where it has not by the deadline. Any number of threads may wait.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<Exit>> {
        if let Some(exit) = *self.exit.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Some(exit));
        }
        if !self.poll(timeout)? {
            return Ok(None);
        }
        let mut known = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(self.reap()?);
        }
        Ok(*known)
    }

    /// Ends the process at once.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A pidfd becomes readable when all threads of the process have ended.
    fn poll(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(count) => return Ok(count > 0),
            }
        }
    }

    /// Reaps the process where it is a child of ours; the exit status of any other is not told to us.
    fn reap(&self) -> io::Result<Exit> {
        loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Err(Errno::INTR) => {}
                Err(Errno::CHILD) => return Ok(Exit { code: None }),
                Err(error) => return Err(error.into()),
                Ok(status) => return Ok(Exit { code: status.as_ref().and_then(exit_code) }),
            }
        }
    }
}

/// The exit status, or 128 and the signal's number, as shells count.
fn exit_code(status: &WaitIdStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// A pidfd; `None` where there is no such process.
fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Proc {
        Proc::below(Path::new("/"))
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "4711 (a) R 1 (b)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20";
        assert_eq!(parse_stat(text), Some(Stat { dead: false, start_time: 987_654 }));
        assert_eq!(parse_stat("4711 (a) Z 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped through the pidfd")]
    fn a_child_tells_its_exit_status_to_all_who_wait() {
        let child = std::process::Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let watch = Watch::of_child(&here(), Uuid::nil(), child.id()).unwrap();
        for _ in 0..2 {
            assert_eq!(watch.wait(None).unwrap(), Some(Exit { code: Some(7) }));
        }
        assert!(!here().lives(watch.handle()).unwrap());
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped through the pidfd")]
    fn a_killed_child_is_told_from_one_that_still_runs() {
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let watch = Watch::of_child(&here(), Uuid::nil(), child.id()).unwrap();
        assert_eq!(watch.wait(Some(Duration::ZERO)).unwrap(), None);
        assert!(here().lives(watch.handle()).unwrap());
        watch.kill().unwrap();
        assert_eq!(watch.wait(None).unwrap(), Some(Exit { code: Some(128 + 9) }));
        watch.kill().unwrap();
    }

    #[test]
    fn a_pid_that_belongs_to_somebody_else_now_is_not_watched() {
        let own = here().stat("self").unwrap().unwrap();
        let boot_id = here().boot_id().unwrap();
        let handle = |start_time, boot_id: &str| MachineHandle {
            id: Uuid::nil(),
            pid: std::process::id(),
            start_time,
            boot_id: boot_id.into(),
        };
        let right = handle(own.start_time, &boot_id);
        assert!(Watch::of_running(&here(), &right).unwrap().is_some());
        for stranger in [handle(own.start_time + 1, &boot_id), handle(own.start_time, "another")] {
            assert!(Watch::of_running(&here(), &stranger).unwrap().is_none());
            assert!(!here().lives(&stranger).unwrap());
        }
    }
}
