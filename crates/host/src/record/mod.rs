//! Records a host: everything that Handover reads of it, in one file, for use elsewhere.
//!
//! A recording is created by reading the host in every way and tracing the reads, so that it contains exactly what the
//! readers need. Its format is in `archive/`.

mod addresses;
mod condense;
mod disguise;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use model::doctor::Platform;
use model::{Address, Holder, Host, HostError, Inventory};
use rustix::io::Errno;
use uuid::Uuid;

use crate::archive::{self, Entries, Entry, FORMAT, Facts, Kind};
use crate::linux_host::LinuxHost;
use crate::platform;
use crate::root::Trace;
use condense::{Interest, condense};
use disguise::Disguise;
pub use disguise::Private;

const HOST_NAME: &str = "proc/sys/kernel/hostname";

/// A recording, ready to be written.
#[derive(Debug)]
pub struct Recording {
    entries: Entries,
    facts: Facts,
    /// Its contents.
    pub contents: Contents,
}

/// The contents of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The number of functions.
    pub functions: usize,
    /// The number of IOMMU groups.
    pub groups: usize,
    /// The number of processes that use a device or matter to the doctor.
    pub processes: usize,
    /// The number of files that were read.
    pub files: usize,
    /// The number of different values of each kind that were replaced.
    pub replaced: BTreeMap<Private, usize>,
    /// The files that could not be read because of missing permissions, counted by name: `config` of 20 functions.
    pub forbidden: BTreeMap<String, usize>,
    /// Functions whose drivers did not answer; their detail is missing.
    pub silent: Vec<Address>,
}

/// Why a recording failed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The root cannot be opened.
    #[error("cannot read {path}: {source}")]
    Root {
        /// The root.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The host cannot be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The search for private values failed.
    #[error("cannot search for private values: {0}")]
    Disguise(#[from] regex::Error),
}

impl Recording {
    /// Records the host under a root. `keep_serials` keeps private values.
    ///
    /// # Errors
    /// If the root cannot be read.
    pub fn make(root: &Path, keep_serials: bool) -> Result<Self, RecordError> {
        let unopened = |source| RecordError::Root { path: root.display().to_string(), source };
        let silent = silent(root)?;
        let (host, trace) = LinuxHost::recorder(root).map_err(unopened)?;
        let (inventory, holders) = read_all(&host, &silent)?;
        let around = host.platform();
        let mut entries = trace.take();
        let text = platform::tools_text(&around.tools);
        let kind = Kind::File(Some(text.into_bytes()));
        entries
            .files
            .insert(platform::TOOLS_FILE.into(), Entry { kind, mode: 0o644, ..Entry::default() });
        name_open_devices(&mut entries, &trace);
        let processes = processes(&holders, &around);
        let modules = around.modules.keys().cloned().collect();
        let interest = Interest { inventory: &inventory, processes: &processes, modules };
        condense(&mut entries, &interest);
        let replaced;
        (entries, replaced) = if keep_serials {
            (entries, BTreeMap::new())
        } else {
            let host_name = trace.source().text(HOST_NAME).ok();
            Disguise::new(key(), host_name.as_deref())?.apply(entries)?
        };
        let contents = Contents {
            functions: inventory.functions.len(),
            groups: inventory.groups.len(),
            processes: processes.len(),
            files: entries.files.values().filter(|entry| entry.content().is_some()).count(),
            replaced,
            forbidden: forbidden(&entries),
            silent,
        };
        let facts = Facts {
            format: FORMAT,
            handover: env!("CARGO_PKG_VERSION").into(),
            recorded: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            as_root: rustix::process::geteuid().is_root(),
            replaced: !keep_serials,
        };
        Ok(Self { entries, facts, contents })
    }

    /// The date of the recording: `2026-11-21`, in UTC.
    #[must_use]
    pub fn day(&self) -> &str {
        self.facts.recorded.split('T').next().unwrap_or_default()
    }

    /// Writes it.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, into: impl Write) -> std::io::Result<()> {
        archive::pack(&self.entries, &self.facts, into)?.flush()
    }
}

/// Reads the host in every way.
fn read_all(host: &LinuxHost, silent: &[Address]) -> Result<(Inventory, Vec<Holder>), RecordError> {
    let (rows, _) = host.overview()?;
    let addresses: Vec<Address> = rows.functions.keys().copied().collect();
    let answering: Vec<Address> =
        addresses.iter().copied().filter(|address| !silent.contains(address)).collect();
    // Reading detail reads the listing first.
    let inventory = host.detail(Some(&answering))?;
    let holders = host.holders(&addresses)?;
    let groups: Vec<u32> = inventory.groups.keys().copied().collect();
    // Errors of these are reported where the recording is used.
    let _ = host.group_nodes(&groups);
    let _ = host.capacity();
    let _ = host.boot_id();
    Ok((inventory, holders))
}

/// The functions whose drivers do not answer. On the running system workers find them, so that this process never
/// blocks.
fn silent(root: &Path) -> Result<Vec<Address>, RecordError> {
    if root != Path::new("/") {
        return Ok(Vec::new());
    }
    let unopened = |source| RecordError::Root { path: root.display().to_string(), source };
    let inventory = LinuxHost::reader(root).map_err(unopened)?.detail(None)?;
    let silent = inventory.functions.values().filter(|function| function.detail.is_none());
    Ok(silent.map(|function| function.address).collect())
}

fn processes(holders: &[Holder], platform: &Platform) -> BTreeSet<u32> {
    let holding = holders.iter().filter_map(|holder| holder.pid);
    holding.chain(platform.processes.iter().map(|process| process.pid)).collect()
}

/// Sets the paths of open devices to the kernel's names: in a container they can have other paths, and a recording has
/// no device numbers of open files.
fn name_open_devices(entries: &mut Entries, trace: &Trace) {
    for (file, (block, (major, minor))) in std::mem::take(&mut entries.open_devices) {
        let class = if block { "block" } else { "char" };
        let Ok(uevent) = trace.source().text(&format!("sys/dev/{class}/{major}:{minor}/uevent"))
        else {
            continue;
        };
        let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="));
        if let (Some(name), Some(entry)) = (name, entries.files.get_mut(&file)) {
            entry.kind = Kind::Link(format!("/dev/{name}"));
        }
    }
}

/// The files that could not be read because of missing permissions, counted by name.
fn forbidden(entries: &Entries) -> BTreeMap<String, usize> {
    let mut forbidden = BTreeMap::new();
    for (path, entry) in &entries.files {
        if matches!(entry.error, Some(Errno::ACCESS | Errno::PERM)) {
            let name = path.rsplit('/').next().unwrap_or(path);
            *forbidden.entry(name.to_owned()).or_default() += 1;
        }
    }
    forbidden
}

/// A random key.
fn key() -> [u8; 32] {
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let mut key = [0; 32];
    for (byte, random) in key.iter_mut().zip(first.as_bytes().iter().chain(second.as_bytes())) {
        *byte = *random;
    }
    key
}
