//! Asking a process that uses a device to exit, by SIGTERM. It is never killed.

use std::time::{Duration, Instant};

use model::{HostError, Observed};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, pidfd_send_signal};

use crate::problem;
use crate::process;
use crate::root::Root;

/// How long a process may take to exit: less than the step's deadline, so that the worker returns in time.
const ENDING: Duration = Duration::from_secs(50);

/// Whether the process has exited. Another process with the same pid has another start time.
pub fn observe(root: &Root, pid: u32, started: u64) -> Result<Observed, HostError> {
    let path = format!("proc/{pid}");
    match root.dir(&path) {
        Ok(process) => Ok(match process::stat(&process) {
            Some(stat) if stat.start_time == started && !stat.has_ended() => Observed::Before,
            _ => Observed::After,
        }),
        Err(Errno::NOENT | Errno::SRCH) => Ok(Observed::After),
        Err(errno) => Err(problem::file(root, "open", &path, errno)),
    }
}

/// Sends SIGTERM once, and waits until the process has exited.
pub fn evict(root: &Root, pid: u32, started: u64, user: &str) -> Result<(), HostError> {
    ask(root, pid, started, user, ENDING)
}

fn ask(
    root: &Root,
    pid: u32,
    started: u64,
    user: &str,
    patience: Duration,
) -> Result<(), HostError> {
    let path = format!("proc/{pid}");
    let failed = |errno, reason: String| {
        problem::because(root, format!("stop {user},"), &path, errno, reason)
    };
    if !root.is_host() {
        let reason = format!("{} is not the running system", root.path().display());
        return Err(failed(Errno::NOSYS, reason));
    }
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Err(failed(Errno::INVAL, "not a valid pid".into()));
    };
    if number == Pid::INIT || number == getpid() || Some(number) == getppid() {
        return Err(failed(Errno::PERM, "this process must not be stopped".into()));
    }
    // Opened before the check: the pidfd always refers to this process, even if the pid is reused (pidfd_open(2)).
    let process = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(failed(errno, problem::words(errno))),
    };
    if observe(root, pid, started)? == Observed::After {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::TERM) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(failed(errno, problem::words(errno))),
    }
    if ends(&process, patience).map_err(|errno| failed(errno, problem::words(errno)))? {
        return Ok(());
    }
    let reason = format!(
        "it did not exit within {} s after SIGTERM; stop it, and retry (Handover never kills a process)",
        patience.as_secs()
    );
    Err(failed(Errno::TIMEDOUT, reason))
}

/// Waits until a process exits: its pidfd becomes readable then, also before its parent has reaped it.
fn ends(process: &OwnedFd, patience: Duration) -> Result<bool, Errno> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(&process.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn host() -> Root {
        Root::open(Path::new("/")).unwrap()
    }

    fn start(script: &str) -> (Child, u64) {
        let mut command = Command::new("/bin/sh");
        let mut child = command
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // Wait until the script's first command has run.
        let mut line = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let process = host().dir(&format!("proc/{}", child.id())).unwrap();
        (child, process::stat(&process).unwrap().start_time)
    }

    #[test]
    fn a_process_is_asked_to_end_and_waited_for() {
        let (mut child, started) = start("echo; exec sleep 600");
        let root = host();
        assert_eq!(observe(&root, child.id(), started).unwrap(), Observed::Before);
        evict(&root, child.id(), started, "sleep").unwrap();
        // Its parent has not reaped it yet: it counts as gone all the same.
        assert_eq!(observe(&root, child.id(), started).unwrap(), Observed::After);
        assert_eq!(child.wait().unwrap().to_string(), "signal: 15 (SIGTERM)");
        evict(&root, child.id(), started, "sleep").unwrap();
    }

    #[test]
    fn another_process_with_the_number_is_left_alone() {
        let (mut child, started) = start("echo; exec sleep 600");
        let root = host();
        assert_eq!(observe(&root, child.id(), started + 1).unwrap(), Observed::After);
        evict(&root, child.id(), started + 1, "sleep").unwrap();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_does_not_exit_is_not_killed() {
        let (mut child, started) = start("trap '' TERM; echo; while :; do sleep 1; done");
        let patience = Duration::from_millis(200);
        let error = ask(&host(), child.id(), started, "sh", patience).unwrap_err().to_string();
        assert!(error.contains("never kills a process"), "{error}");
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn neither_init_nor_the_daemon_is_asked() {
        let process = host().dir("proc/1").unwrap();
        let Some(stat) = process::stat(&process) else { return };
        let error = evict(&host(), 1, stat.start_time, "init").unwrap_err().to_string();
        assert!(error.contains("must not be stopped"), "{error}");
    }
}
