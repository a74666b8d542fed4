//! Asking a process to let go of a device, by ending. It is never killed.

use std::time::{Duration, Instant};

use model::{HostError, Observed};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, pidfd_send_signal};

use crate::problem;
use crate::process;
use crate::root::Root;

/// How long a process may take to end: less than the step's deadline, so that the worker comes back.
const ENDING: Duration = Duration::from_secs(50);

/// Whether the process is gone. Another one with its number has another start.
pub fn observe(root: &Root, pid: u32, started: u64) -> Result<Observed, HostError> {
    let path = format!("proc/{pid}");
    match root.dir(&path) {
        Ok(process) => Ok(match process::stat(&process) {
            Some(stat) if stat.start_time == started && !stat.has_ended() => Observed::Before,
            _ => Observed::After,
        }),
        Err(Errno::NOENT | Errno::SRCH) => Ok(Observed::After),
        Err(errno) => Err(problem::file(root, "look into", &path, errno)),
    }
}

/// Sends SIGTERM once, and waits until the process is gone.
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
        problem::because(root, format!("ask {user} to end, by"), &path, errno, reason)
    };
    if !root.is_host() {
        let reason = format!("{} is not the running system", root.path().display());
        return Err(failed(Errno::NOSYS, reason));
    }
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Err(failed(Errno::INVAL, "that is the number of no process".into()));
    };
    if number == Pid::INIT || number == getpid() || Some(number) == getppid() {
        return Err(failed(Errno::PERM, "that process must not be ended".into()));
    }
    // Held before it is looked at: from here on the number cannot come to mean another process (pidfd_open(2)).
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
        "it did not end within {} s; end it yourself, and try again: it is never killed from here",
        patience.as_secs()
    );
    Err(failed(Errno::TIMEDOUT, reason))
}

/// Waits for the end of a process: its descriptor can be read then, also while its parent has not looked.
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
        // Until the shell has done what it says first.
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
        // Nobody has looked at it yet: it is gone all the same.
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
    fn who_does_not_end_is_not_killed() {
        let (mut child, started) = start("trap '' TERM; echo; while :; do sleep 1; done");
        let patience = Duration::from_millis(200);
        let error = ask(&host(), child.id(), started, "sh", patience).unwrap_err().to_string();
        assert!(error.contains("never killed from here"), "{error}");
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn neither_init_nor_the_daemon_is_asked() {
        let process = host().dir("proc/1").unwrap();
        let Some(stat) = process::stat(&process) else { return };
        let error = evict(&host(), 1, stat.start_time, "init").unwrap_err().to_string();
        assert!(error.contains("must not be ended"), "{error}");
    }
}
