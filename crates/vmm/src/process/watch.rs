//! Waiting for processes and signalling them, only by a pidfd whose process was checked after the pidfd was opened: a
//! reused pid never matters.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{Exit, MachineHandle, MachineRun, VmmProcess};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal,
    waitid,
};
use uuid::Uuid;

use super::procfs::Proc;

/// A watched process.
#[derive(Debug)]
pub struct Watch {
    handle: MachineHandle,
    pidfd: OwnedFd,
    exit: Mutex<Option<Exit>>,
}

impl Watch {
    /// Watches a child of this process that has not been reaped.
    pub fn of_child(proc: &Proc, id: Uuid, pid: u32) -> io::Result<Self> {
        let pidfd = open(pid)?.ok_or(Errno::SRCH)?;
        let stat = proc.stat(&pid.to_string())?.ok_or(Errno::SRCH)?;
        let boot_id = proc.boot_id()?;
        let run = MachineRun::Process(VmmProcess { pid, start_time: stat.start_time });
        let handle = MachineHandle { id, run, boot_id };
        Ok(Self { handle, pidfd, exit: Mutex::new(None) })
    }

    /// Watches a process that an earlier daemon started; `None` if it is gone.
    pub fn of_running(proc: &Proc, handle: &MachineHandle) -> io::Result<Option<Self>> {
        if handle.boot_id != proc.boot_id()? {
            return Ok(None);
        }
        let Some(process) = handle.process() else { return Ok(None) };
        let Some(pidfd) = open(process.pid)? else { return Ok(None) };
        // After opening: the pidfd refers to one process, and this checks that it is the right one.
        let stat = proc.stat(&process.pid.to_string())?;
        let same = stat.is_some_and(|stat| stat.start_time == process.start_time);
        Ok(same.then(|| Self { handle: handle.clone(), pidfd, exit: Mutex::new(None) }))
    }

    /// The handle of the process.
    pub const fn handle(&self) -> &MachineHandle {
        &self.handle
    }

    /// Waits until the process has exited; `None` after the timeout. Any number of threads may wait.
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

    /// Kills the process.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the pidfd, which becomes readable when all threads of the process have exited.
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

    /// Reaps the process if it is our child; the exit status of any other process is not available.
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

/// The exit status, or 128 plus the signal's number, as in shells.
fn exit_code(status: &WaitIdStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// Opens a pidfd; `None` if there is no such process.
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
    use std::path::Path;

    fn here() -> Proc {
        Proc::below(Path::new("/"))
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped through the pidfd")]
    fn all_waiting_threads_get_a_childs_exit_status() {
        let child = std::process::Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let watch = Watch::of_child(&here(), Uuid::nil(), child.id()).unwrap();
        for _ in 0..2 {
            assert_eq!(watch.wait(None).unwrap(), Some(Exit { code: Some(7) }));
        }
        assert!(!here().lives(watch.handle()).unwrap());
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped through the pidfd")]
    fn a_killed_child_is_distinguished_from_a_running_one() {
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let watch = Watch::of_child(&here(), Uuid::nil(), child.id()).unwrap();
        assert_eq!(watch.wait(Some(Duration::ZERO)).unwrap(), None);
        assert!(here().lives(watch.handle()).unwrap());
        watch.kill().unwrap();
        assert_eq!(watch.wait(None).unwrap(), Some(Exit { code: Some(128 + 9) }));
        watch.kill().unwrap();
    }

    #[test]
    fn a_pid_that_belongs_to_another_process_now_is_not_watched() {
        let own = here().stat("self").unwrap().unwrap();
        let boot_id = here().boot_id().unwrap();
        let handle = |start_time, boot_id: &str| MachineHandle {
            id: Uuid::nil(),
            run: MachineRun::Process(VmmProcess { pid: std::process::id(), start_time }),
            boot_id: boot_id.into(),
        };
        let right = handle(own.start_time, &boot_id);
        assert!(Watch::of_running(&here(), &right).unwrap().is_some());
        for stranger in [handle(own.start_time + 1, &boot_id), handle(own.start_time, "another")] {
            assert!(Watch::of_running(&here(), &stranger).unwrap().is_none());
            assert!(!here().lives(&stranger).unwrap());
        }
        let run = MachineRun::Service { run: "1".into() };
        let of_a_service = MachineHandle { run, ..right };
        assert!(Watch::of_running(&here(), &of_a_service).unwrap().is_none());
    }
}
