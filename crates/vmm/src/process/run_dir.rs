//! A machine's lock and record in its directory below the run directory, by which every daemon finds the machine.
//!
//! The VMM itself holds the lock: it inherits the open file description and keeps it until the kernel closes it. So a
//! free lock proves that the VMM is gone; but a VMM that its guest has compromised could unlock, so the recorded
//! process must be gone as well. A locked file without a record means that `handover launch` is running, or an unknown
//! state: the machine is never considered dead then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use model::{Mac, MachineHandle, Presence};
use own_files::{Existing, OwnFile, RUN_DIR, make_dir, replace_with};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::procfs::Proc;
use super::{Config, cgroup};

/// How often the lock and the record are read while they are about to change, and the pause between.
const CHECKS: u32 = 40;
const BETWEEN_CHECKS: Duration = Duration::from_millis(50);

/// The largest size of a record.
const LONGEST_RECORD: u64 = 64 * 1024;

/// A machine's directory below the run directory. Only root can enter it.
#[derive(Clone, Debug)]
pub struct RunDir {
    dir: PathBuf,
    id: Uuid,
}

/// The record that `handover launch` writes of the process that becomes the VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The process.
    #[serde(flatten)]
    pub handle: MachineHandle,
    /// Its cgroup, if one could be created.
    pub cgroup: Option<PathBuf>,
    /// Its interfaces on the host.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// The hardware addresses of its cards with these interfaces; machines that an earlier version started have none.
    #[serde(default)]
    pub macs: Vec<Mac>,
}

impl RunDir {
    /// The directory of machine `id` below `run_dir`.
    pub fn of(run_dir: &Path, id: Uuid) -> Self {
        Self { dir: run_dir.join("machines").join(id.to_string()), id }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The VMM's control socket. Machines that an earlier version started use the same name.
    pub fn control(&self) -> PathBuf {
        self.dir.join("monitor")
    }

    /// The socket of the guest's serial console. Machines that earlier versions started have none.
    pub fn console(&self) -> PathBuf {
        self.dir.join("console")
    }

    /// The socket of the port that leads to the agent in the guest, if the machine has one.
    pub fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    fn lock_file(&self) -> PathBuf {
        self.dir.join("lock")
    }

    fn record_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// Creates the directory.
    pub fn prepare(&self) -> io::Result<()> {
        let machines = self.dir.parent().unwrap_or(&self.dir);
        if let Some(run_dir) = machines.parent() {
            make_dir(run_dir, RUN_DIR, Existing::Tighten)?;
        }
        make_dir(machines, 0o700, Existing::Set)?;
        make_dir(&self.dir, 0o700, Existing::Set)
    }

    /// Takes the lock for a new VMM; `None` if a VMM holds it. It is opened for reading only: a VMM must not be able to
    /// change the file.
    pub fn take(&self) -> io::Result<Option<File>> {
        let path = self.lock_file();
        let lock = OwnFile::at(&path).mode(0o600);
        // The standard library creates a file only for writing.
        let created = lock.open(OpenOptions::new().write(true).create(true));
        let file = created.and_then(|_| lock.open(OpenOptions::new().read(true)))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a VMM, or `handover launch` before it, holds the lock. The check takes a shared lock, so that two checks
    /// do not see each other.
    pub fn is_locked(&self) -> io::Result<bool> {
        let file = match OwnFile::at(&self.lock_file()).open(OpenOptions::new().read(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what `handover launch` reads from its standard input, which is the lock.
    pub fn write_order(&self, order: &[u8]) -> io::Result<()> {
        let mut file = OwnFile::at(&self.lock_file()).open(OpenOptions::new().write(true))?;
        file.set_len(0)?;
        file.write_all(order)
    }

    /// The record; `None` if there is none or it cannot be parsed.
    pub fn record(&self) -> io::Result<Option<Record>> {
        match OwnFile::at(&self.record_file()).read(LONGEST_RECORD) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the record atomically.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        replace_with(&self.record_file(), "pid.new", &serde_json::to_vec(record)?, 0o600)
    }

    /// Writes the record of a running VMM again if it was removed with the run directory: without it, the next daemon
    /// would consider the machine gone, because a lock on a removed file is not seen.
    pub fn keep_record(&self, record: &Record) -> io::Result<()> {
        if self.record_file().symlink_metadata().is_ok() {
            return Ok(());
        }
        self.prepare()?;
        let new = self.dir.join("pid.again");
        replace_with(&new, "pid.again.new", &serde_json::to_vec(record)?, 0o600)?;
        // A machine that was started again meanwhile has a newer record.
        match renameat_with(CWD, &new, CWD, self.record_file(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => return remove_file(&new),
            renamed => renamed?,
        }
        tracing::warn!(machine = %self.id, "the machine's record in the run directory was removed; it is there again");
        Ok(())
    }

    /// Removes the record and the sockets of an earlier VMM. Call it with the lock taken.
    pub fn clear(&self) -> io::Result<()> {
        for file in [self.record_file(), self.control(), self.console(), self.agent()] {
            remove_file(&file)?;
        }
        Ok(())
    }

    /// Takes the lock, waiting briefly for processes that only check it.
    pub fn take_patiently(&self) -> io::Result<Option<File>> {
        for _ in 0..CHECKS {
            if let Some(lock) = self.take()? {
                return Ok(Some(lock));
            }
            thread::sleep(BETWEEN_CHECKS);
        }
        Ok(None)
    }

    /// Whether the machine is running.
    pub fn presence(&self, proc: &Proc) -> Presence {
        for turn in 0..CHECKS {
            if turn > 0 {
                thread::sleep(BETWEEN_CHECKS);
            }
            match self.check(proc) {
                Ok(Some(presence)) => return presence,
                // `handover launch` writes its record a moment after it got the lock.
                Ok(None) => {}
                Err(error) => {
                    let dir = self.dir.display();
                    return Presence::Unknown(format!("cannot read {dir}: {error}"));
                }
            }
        }
        let lock = self.lock_file();
        let lock = lock.display();
        Presence::Unknown(format!(
            "{lock} is locked, but its record has no living process; `fuser -v {lock}` shows the user"
        ))
    }

    /// Checks once; `None` if the state may be clear a moment later.
    fn check(&self, proc: &Proc) -> io::Result<Option<Presence>> {
        // The lock first: a VMM that exits between the two reads is found gone.
        let locked = self.is_locked()?;
        if let Some(Record { handle, .. }) = self.record()?
            && handle.id == self.id
            && proc.lives(&handle)?
        {
            return Ok(Some(Presence::Running(handle)));
        }
        Ok((!locked).then_some(Presence::Gone))
    }
}

/// Removes the cgroup, the interfaces and the record of a VMM that is gone. The recorded cgroup may be below that of an
/// earlier daemon. Call it with the lock taken, or when the machine will not start again.
pub fn forget(run: &RunDir, record: Option<&Record>, config: &Config) -> io::Result<()> {
    let interfaces = record.iter().flat_map(|record| {
        let macs = record.macs.iter().copied().map(Some).chain(std::iter::repeat(None));
        record.interfaces.iter().zip(macs)
    });
    for (interface, mac) in interfaces {
        if let Err(error) = config.links.remove(&config.root, interface, mac) {
            tracing::warn!(machine = %run.path().display(), %error, "an interface of the machine is left");
        }
    }
    let cgroup = record.and_then(|record| record.cgroup.as_deref());
    if let Some(Err(error)) = cgroup.map(cgroup::remove) {
        tracing::warn!(machine = %run.path().display(), %error, "cannot remove the machine's cgroup");
    }
    run.clear()
}

/// Removes a file. A missing file is not an error.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{MachineRun, VmmProcess};

    fn own_record(proc: &Proc, id: Uuid) -> Record {
        let start_time = proc.stat("self").unwrap().unwrap().start_time;
        let boot_id = proc.boot_id().unwrap();
        let run = MachineRun::Process(VmmProcess { pid: std::process::id(), start_time });
        let handle = MachineHandle { id, run, boot_id };
        Record { handle, cgroup: None, interfaces: Vec::new(), macs: Vec::new() }
    }

    #[test]
    fn a_free_lock_means_gone_and_a_locked_one_needs_its_process() {
        let top = tempfile::tempdir().unwrap();
        let proc = Proc::below(Path::new("/"));
        let id = Uuid::from_u128(1);
        let run = RunDir::of(top.path(), id);
        assert_eq!(run.presence(&proc), Presence::Gone, "no directory at all");
        run.prepare().unwrap();
        let lock = run.take().unwrap().unwrap();
        assert!(run.take().unwrap().is_none(), "only one can have it");
        assert!(matches!(run.presence(&proc), Presence::Unknown(_)), "no record");
        let record = own_record(&proc, id);
        run.write_record(&record).unwrap();
        assert_eq!(run.presence(&proc), Presence::Running(record.handle.clone()));
        drop(lock);
        assert_eq!(
            run.presence(&proc),
            Presence::Running(record.handle.clone()),
            "a VMM that unlocked is not gone while its process lives"
        );
        let mut stale = record;
        let VmmProcess { pid, start_time } = stale.handle.process().unwrap();
        let later = VmmProcess { pid, start_time: start_time + 1 };
        stale.handle.run = MachineRun::Process(later);
        run.write_record(&stale).unwrap();
        assert_eq!(run.presence(&proc), Presence::Gone, "the pid is another process's now");
    }

    #[test]
    fn a_record_of_another_boot_or_machine_or_of_garbage_counts_for_nothing() {
        let top = tempfile::tempdir().unwrap();
        let proc = Proc::below(Path::new("/"));
        let run = RunDir::of(top.path(), Uuid::from_u128(1));
        run.prepare().unwrap();
        let mut earlier = own_record(&proc, Uuid::from_u128(1));
        earlier.handle.boot_id = "another".into();
        for record in [earlier, own_record(&proc, Uuid::from_u128(2))] {
            run.write_record(&record).unwrap();
            assert_eq!(run.presence(&proc), Presence::Gone);
        }
        fs::write(run.record_file(), b"\xff{").unwrap();
        assert_eq!(run.presence(&proc), Presence::Gone);
    }
}
