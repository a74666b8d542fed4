//! The lock for processes that may use bpf(2): a BPF map with a name.
//!
//! Why a map: no namespace hides it (map ids are global to the kernel, and there is no BPF namespace), it exists
//! exactly as long as a process has it open, and it has no path by which it could be removed. It is a trie
//! (`BPF_MAP_TYPE_LPM_TRIE`, Linux 4.11), which needs `CAP_BPF` in the initial user namespace (before 5.8
//! `CAP_SYS_ADMIN`) even if `kernel.unprivileged_bpf_disabled` is 0: an unprivileged user cannot create one to lock us
//! out, as with an array. A trie replaces its value as a whole, so a record is never read half-written.
//!
//! Taking the lock. A process
//! 1. creates a map with the name, and writes its record into it as `wanted`;
//! 2. lists all maps, and searches others with the name and type;
//! 3. has the lock if there is no other, writes `held` and keeps its map open;
//! 4. else closes its map, if another is `held` or has a lower id, and retries after a random time; or keeps it, if all
//!    others have higher ids and are not `held`, and continues with 2.
//!
//! **Safety: never two holders.** Assume that A and B both have the lock. Each created its map before it began its last
//! list, and still has it open. One of the two was created first, say A's: then A's map existed during B's whole list.
//! A list returns every map that exists from its beginning to its end (`bpf_map_get_curr_or_next` goes up the ids, and
//! a map's id does not change while it exists; `BPF_MAP_CREATE` returns after the map has its id), so B saw A's map,
//! and did not take the lock. The records and the order of ids do not matter for this: they only decide which process
//! backs off, so ids may wrap around (at 2^31) and a process may be stopped at any point.
//!
//! **Progress: usually one holder.** Of processes that want the lock at the same time the one with the lowest id stays,
//! and all others see it and back off. It has the lock as soon as they have closed their maps. A process that is
//! stopped with its map open blocks the lock like a holder; the others give up after [`PATIENCE`], and report it.
//!
//! A map disappears with its last descriptor (`bpf_map_put` removes the id at once): a process that dies has released
//! it before its parent is notified. A process that only lists maps has each open for a moment, like `bpftool map`; we
//! wait for that ([`PASSING`]).

use std::path::Path;
use std::time::{Duration, Instant};

use model::LockHolder;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Failure, PASSING};
use crate::sys::bpf::{self, Map};

/// The size of a record in bytes, with zeros after the JSON.
const RECORD: usize = 2048;

/// The most characters of a state directory in a record: each takes at most six bytes in JSON, and a host name has 64.
const STATE_DIR: usize = 256;

/// How long to compete with others that want the lock at the same time.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest pause between two tries, in microseconds.
const JITTER: u128 = 20_000;

/// A process that has the lock, or wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    state: State,
    pid: u32,
    /// The inode of its PID namespace.
    pid_namespace: Option<u64>,
    hostname: String,
    state_dir: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Wanted,
    Held,
}

/// The lock, until dropped.
#[derive(Debug)]
pub struct MapLock {
    _map: Map,
}

/// Another process's map.
#[derive(Debug)]
struct Other {
    id: u32,
    state: State,
    holder: LockHolder,
}

/// Takes the lock with this name.
pub fn take(name: &str, record: &Record) -> Result<MapLock, Failure> {
    let began = Instant::now();
    loop {
        let other = match attempt(name, record, began + PATIENCE)? {
            Ok(lock) => return Ok(lock),
            Err(other) => other,
        };
        let patience = if other.state == State::Held { PASSING } else { PATIENCE };
        if began.elapsed() >= patience {
            return Err(Failure::Held(other.holder));
        }
        let pause = u64::try_from(Uuid::new_v4().as_u128() % JITTER).unwrap_or_default();
        std::thread::sleep(Duration::from_micros(pause));
    }
}

/// Tries once; the inner error is the process to back off for.
fn attempt(name: &str, record: &Record, until: Instant) -> Result<Result<MapLock, Other>, Failure> {
    let map = Map::create(name, RECORD as u32).map_err(refused)?;
    let own = map.id().map_err(failed)?;
    map.write(&record.bytes(State::Wanted)).map_err(failed)?;
    loop {
        let mut others = others(name, own)?;
        others.sort_by_key(|other| (other.state != State::Held, other.id));
        let Some(first) = others.into_iter().next() else { break };
        if first.state == State::Held || first.id < own || Instant::now() >= until {
            return Ok(Err(first));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    map.write(&record.bytes(State::Held)).map_err(failed)?;
    Ok(Ok(MapLock { _map: map }))
}

/// The maps of others with this name.
fn others(name: &str, own: u32) -> Result<Vec<Other>, Failure> {
    let mut others = Vec::new();
    let mut id = 0;
    while let Some(next) = bpf::next_map(id).map_err(refused)? {
        id = next;
        if id != own
            && let Some(other) = open(name, id)?
        {
            others.push(other);
        }
    }
    Ok(others)
}

/// The map with this id, if it has this name.
fn open(name: &str, id: u32) -> Result<Option<Other>, Failure> {
    let map = match Map::open(id).map_err(|error| errno(&error)) {
        Ok(map) => map,
        Err(Errno::NOENT) => return Ok(None),
        // A security module can hide maps of other programs, but should not hide those of Handover.
        Err(denied @ (Errno::PERM | Errno::ACCESS)) => {
            tracing::debug!("cannot open the BPF map {id}: {denied}");
            return Ok(None);
        }
        Err(errno) => return Err(Failure::Failed(errno)),
    };
    if !map.is_named(name).map_err(failed)? {
        return Ok(None);
    }
    let Some(value) = map.read().map_err(failed)? else {
        return Ok(Some(Other { id, state: State::Wanted, holder: LockHolder::default() }));
    };
    // A record in another version's format counts as held.
    let record = Record::parse(&value);
    let state = record.as_ref().map_or(State::Held, |record| record.state);
    Ok(Some(Other { id, state, holder: record.map(Record::holder).unwrap_or_default() }))
}

impl Record {
    /// This process, with its state directory.
    pub fn of_this_process(state_dir: &Path) -> Self {
        let names = rustix::system::uname();
        Self {
            state: State::Wanted,
            pid: std::process::id(),
            pid_namespace: pid_namespace(),
            hostname: names.nodename().to_string_lossy().into_owned(),
            state_dir: state_dir.to_string_lossy().chars().take(STATE_DIR).collect(),
        }
    }

    fn bytes(&self, state: State) -> Vec<u8> {
        let record = Self { state, ..self.clone() };
        let mut bytes = serde_json::to_vec(&record).unwrap_or_default();
        bytes.resize(RECORD, 0);
        bytes
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        serde_json::from_slice(value.get(..end)?).ok()
    }

    fn holder(self) -> LockHolder {
        LockHolder {
            pid: Some(self.pid),
            other_pid_namespace: self.pid_namespace != pid_namespace(),
            hostname: Some(self.hostname),
            state_dir: Some(self.state_dir.into()),
        }
    }
}

/// The inode of this process's PID namespace, which identifies it.
fn pid_namespace() -> Option<u64> {
    rustix::fs::stat("/proc/self/ns/pid").ok().map(|stat| stat.st_ino)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn failed(error: std::io::Error) -> Failure {
    Failure::Failed(errno(&error))
}

/// The failure for a call that every process with bpf(2) may make: if the kernel refuses it, this lock is unavailable.
/// Before 5.11, EPERM also means that the limit of locked memory is too low.
fn refused(error: std::io::Error) -> Failure {
    match errno(&error) {
        errno @ (Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::INVAL | Errno::TOOBIG) => {
            Failure::Unavailable(errno)
        }
        errno => Failure::Failed(errno),
    }
}

#[cfg(test)]
mod tests;
