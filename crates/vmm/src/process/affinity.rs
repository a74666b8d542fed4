//! On which processors of the host the threads of a VMM run.

use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::procfs::Proc;

/// Lets this thread, and those that it starts, run on these processors only; none means all.
///
/// # Errors
/// If none of them is online, or this process may use none of them.
pub fn keep_on(cpus: &[u32]) -> io::Result<()> {
    if cpus.is_empty() { Ok(()) } else { Ok(sched_setaffinity(None, &set(cpus))?) }
}

/// Lets a thread of a process run on one processor. A VMM names its threads itself, so it is checked that the thread is one of
/// its own.
///
/// # Errors
/// If it is not, or the processor is not online.
pub fn pin(proc: &Proc, process: u32, thread: u32, cpu: u32) -> io::Result<()> {
    let own = proc.has_thread(process, thread);
    let thread = i32::try_from(thread).ok().and_then(Pid::from_raw).filter(|_| own);
    let thread = thread.ok_or(io::ErrorKind::NotFound)?;
    Ok(sched_setaffinity(Some(thread), &set(&[cpu]))?)
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
    fn only_a_processes_own_threads_are_pinned() {
        let proc = Proc::below(Path::new("/"));
        let mine = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|cpu| mine.is_set(*cpu)).unwrap();
        let first = u32::try_from(first).unwrap();
        let thread = std::thread::spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            let proc = Proc::below(Path::new("/"));
            pin(&proc, std::process::id(), tid, first).unwrap();
            sched_getaffinity(None).unwrap().count()
        });
        assert_eq!(thread.join().unwrap(), 1);
        assert!(pin(&proc, std::process::id(), 1, first).is_err(), "it is another process's");
        keep_on(&[]).unwrap();
        assert_eq!(sched_getaffinity(None).unwrap(), mine);
    }
}
