//! On which processors of the host the threads of a VMM run.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::procfs::Proc;
use super::programs::wait;

/// How long `taskset` may take for all threads.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets this thread, and those that it starts, run on these processors only; none means all.
///
/// # Errors
/// If none of them is online, or this process may use none of them.
pub fn keep_on(cpus: &[u32]) -> io::Result<()> {
    if cpus.is_empty() { Ok(()) } else { Ok(sched_setaffinity(None, &set(cpus))?) }
}

/// Lets each of these threads of a process, which has this user, run on one processor. A VMM names its threads itself, so it is
/// checked that they are its own.
///
/// # Errors
/// If one is not, or its processor is not online.
pub fn pin(proc: &Proc, process: u32, uid: u32, pairs: &[(u32, u32)]) -> io::Result<()> {
    if let Some((thread, _)) = pairs.iter().find(|(thread, _)| !proc.has_thread(process, *thread)) {
        let problem = format!("{thread} is no thread of process {process}");
        return Err(io::Error::new(io::ErrorKind::NotFound, problem));
    }
    let direct = |(thread, cpu): &(u32, u32)| {
        let thread = i32::try_from(*thread).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        sched_setaffinity(Some(thread), &set(&[*cpu]))
    };
    match pairs.iter().try_for_each(direct) {
        Err(Errno::PERM) => pin_as(uid, pairs),
        done => Ok(done?),
    }
}

/// The same as the threads' user: without CAP_SYS_NICE, which the systemd unit gives up, the kernel allows it to no one else
/// (`check_same_owner` in kernel/sched/syscalls.c).
fn pin_as(uid: u32, pairs: &[(u32, u32)]) -> io::Result<()> {
    const EACH: &str = r#"while [ $# -gt 0 ]; do taskset -pc "$1" "$2" || exit; shift 2; done"#;
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
    command.args(["--clear-groups", "--inh-caps=-all", "--no-new-privs", "sh", "-c", EACH, "sh"]);
    command.args(pairs.iter().flat_map(|(thread, cpu)| [cpu.to_string(), thread.to_string()]));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    match wait(&mut child, PATIENCE)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(io::Error::other(format!("taskset failed: {status}"))),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn set(cpus: &[u32]) -> CpuSet {
    let mut set = CpuSet::new();
    let known = cpus.iter().filter_map(|cpu| usize::try_from(*cpu).ok());
    known.filter(|cpu| *cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
    set
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::thread::sched_getaffinity;

    use super::*;

    #[test]
    fn threads_are_pinned_by_their_own_user() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: it needs root, to change the user");
            return;
        }
        let uid = 1_900_001_000;
        let mut child = Command::new("setpriv")
            .args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()])
            .args(["sleep", "600"])
            .spawn()
            .unwrap();
        let proc = Proc::below(Path::new("/"));
        while proc.name(child.id()).as_deref() != Some("sleep") {
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = Pid::from_child(&child);
        let mine = sched_getaffinity(Some(pid)).unwrap();
        let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| mine.is_set(*cpu)).unwrap();
        pin_as(uid, &[(child.id(), u32::try_from(last).unwrap())]).unwrap();
        let pinned = sched_getaffinity(Some(pid)).unwrap();
        assert!(pinned.count() == 1 && pinned.is_set(last));
        assert!(pin_as(uid, &[(std::process::id(), 0)]).is_err(), "another user's process");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn only_a_processes_own_threads_are_pinned() {
        let proc = Proc::below(Path::new("/"));
        let mine = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|cpu| mine.is_set(*cpu)).unwrap();
        let first = u32::try_from(first).unwrap();
        let thread = std::thread::spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            let proc = Proc::below(Path::new("/"));
            pin(&proc, std::process::id(), 0, &[(tid, first)]).unwrap();
            sched_getaffinity(None).unwrap().count()
        });
        assert_eq!(thread.join().unwrap(), 1);
        assert!(
            pin(&proc, std::process::id(), 0, &[(1, first)]).is_err(),
            "it is another process's"
        );
        keep_on(&[]).unwrap();
        assert_eq!(sched_getaffinity(None).unwrap(), mine);
    }
}
