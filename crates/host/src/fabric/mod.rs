//! The fabric sets of a host: what NVIDIA's Fabric Manager says by its program `fmpm`, and what a file says where it does not.
//!
//! `fmpm -l` prints the partitions of the shared-NVSwitch mode as JSON (NVIDIA/Fabric-Manager-Client). A GPU is named by its
//! module (`physicalId`); its address is 0 when Fabric Manager runs in a service machine, or the GPU is not on NVIDIA's driver.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use model::{Address, FabricSet, FabricSets, HostError};
use rustix::io::Errno;
use serde::Deserialize;

use crate::root::Root;
use crate::{problem, program};

/// The file of a host whose Fabric Manager does not run on it, or does not tell addresses.
pub const FILE: &str = "etc/handover/fabric.json";

const PROGRAM: &str = "fmpm";

/// How long the program may take: activating a set trains links. Less than the step's deadline.
const PATIENCE: Duration = Duration::from_secs(35);

/// How long it may take to list.
const LISTING: Duration = Duration::from_secs(6);

/// The longest output that is read.
const LONGEST: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The program that Fabric Manager is asked by, with its options.
    #[serde(default)]
    program: Vec<String>,
    /// The GPU of each module.
    #[serde(default)]
    gpus: BTreeMap<u32, Address>,
    /// What `fmpm -l` printed, where there is no program.
    list: Option<Listed>,
}

/// What `fmpm -l` prints; other fields are left out.
#[derive(Debug, Default, Deserialize)]
struct Listed {
    #[serde(rename = "partitionInfo", default)]
    partitions: Vec<Partition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Partition {
    partition_id: u32,
    #[serde(default)]
    is_active: u32,
    #[serde(default)]
    gpu_info: Vec<Gpu>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gpu {
    physical_id: u32,
    #[serde(default)]
    pci_bus_id: String,
}

/// The state of a set, as Fabric Manager tells it.
#[derive(Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its number.
    pub id: u32,
    /// Whether it is active.
    pub is_active: bool,
}

/// The program that Fabric Manager is asked by.
#[derive(Debug)]
pub struct FabricManager {
    path: String,
    options: Vec<String>,
    /// Whether the host's file says that there are sets.
    is_named: bool,
}

/// Whether this host may have fabric sets: it has the file or the program.
pub fn may_have(root: &Root) -> bool {
    root.exists(FILE) || program::find(root, PROGRAM).is_some()
}

/// The fabric sets of this host; `None` if it has neither the program nor the file.
///
/// # Errors
/// The file or the answer cannot be read.
pub fn read(root: &Root) -> Result<Option<FabricSets>, HostError> {
    let file = file(root)?;
    let manager = manager(root, file.as_ref());
    let listed = match (&manager, file.as_ref().and_then(|file| file.list.as_ref())) {
        (Some(manager), _) => match manager.answer(root) {
            Ok(listed) => &{ listed },
            // Its program is installed, but it does not run, or not in the mode that has sets.
            Err(error) if !manager.is_named => {
                tracing::warn!("fabric sets are not known: {error}");
                return Ok(None);
            }
            Err(error) => return Err(error),
        },
        (None, Some(listed)) => listed,
        (None, None) => return Ok(None),
    };
    let no_gpus = BTreeMap::new();
    let known = file.as_ref().map_or(&no_gpus, |file| &file.gpus);
    let sets = listed.partitions.iter().filter_map(|one| set(one, known)).collect();
    Ok(Some(FabricSets { sets, can_switch: manager.is_some() }))
}

/// A set, if the addresses of all of its GPUs are known.
fn set(partition: &Partition, known: &BTreeMap<u32, Address>) -> Option<FabricSet> {
    let address =
        |gpu: &Gpu| known.get(&gpu.physical_id).copied().or_else(|| bus_id(&gpu.pci_bus_id));
    let gpus: BTreeSet<Address> = partition.gpu_info.iter().map(address).collect::<Option<_>>()?;
    let (id, is_active) = (partition.partition_id, partition.is_active != 0);
    (!gpus.is_empty()).then_some(FabricSet { id, is_active, gpus })
}

/// An address as NVIDIA's programs print it (`00000000:3B:00.0`), unless it is unknown, which is 0.
fn bus_id(text: &str) -> Option<Address> {
    let (domain, rest) = text.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    let address: Address = format!("{domain:04x}:{rest}").to_ascii_lowercase().parse().ok()?;
    (address.to_string() != "0000:00:00.0").then_some(address)
}

fn file(root: &Root) -> Result<Option<File>, HostError> {
    if !root.exists(FILE) {
        return Ok(None);
    }
    let text = root.text(FILE).map_err(|errno| problem::file(root, "read", FILE, errno))?;
    let wrong = |error: serde_json::Error| {
        problem::because(root, "understand", FILE, Errno::INVAL, error.to_string())
    };
    serde_json::from_str(&text).map(Some).map_err(wrong)
}

/// The program that the file names, else Fabric Manager's own where it is installed and the file has no list instead.
fn manager(root: &Root, file: Option<&File>) -> Option<FabricManager> {
    let named = file.and_then(|file| file.program.split_first());
    if let Some((path, options)) = named {
        let path = path.trim_start_matches('/').to_owned();
        return Some(FabricManager { path, options: options.to_vec(), is_named: true });
    }
    if file.is_some_and(|file| file.list.is_some()) {
        return None;
    }
    let path = program::find(root, PROGRAM)?;
    Some(FabricManager { path, options: Vec::new(), is_named: file.is_some() })
}

impl FabricManager {
    /// The program of this host; `None` if it has none.
    ///
    /// # Errors
    /// The file is wrong.
    pub fn find(root: &Root) -> Result<Option<Self>, HostError> {
        Ok(manager(root, file(root)?.as_ref()))
    }

    /// The states of all sets.
    ///
    /// # Errors
    /// Fabric Manager does not answer.
    pub fn list(&self, root: &Root) -> Result<Vec<Listing>, HostError> {
        let partitions = self.answer(root)?.partitions.into_iter();
        let listing =
            |one: Partition| Listing { id: one.partition_id, is_active: one.is_active != 0 };
        Ok(partitions.map(listing).collect())
    }

    /// Activates or deactivates a set.
    ///
    /// # Errors
    /// Fabric Manager refuses, or does not answer.
    pub fn switch(&self, root: &Root, set: u32, to: bool) -> Result<(), HostError> {
        let verb = if to { "-a" } else { "-d" };
        self.run(root, &[verb, &set.to_string()], PATIENCE).map(drop)
    }

    fn answer(&self, root: &Root) -> Result<Listed, HostError> {
        let text = self.run(root, &["-l"], LISTING)?;
        let wrong = |error: serde_json::Error| {
            problem::because(
                root,
                "understand the answer of",
                &self.path,
                Errno::INVAL,
                error.to_string(),
            )
        };
        serde_json::from_str(&text).map_err(wrong)
    }

    /// Runs it; one that does not end in time is killed, and not waited for.
    fn run(
        &self,
        root: &Root,
        arguments: &[&str],
        patience: Duration,
    ) -> Result<String, HostError> {
        let failed = |errno: Errno, reason: String| {
            let action = format!("ask Fabric Manager ({}) with", arguments.join(" "));
            problem::because(root, action, &self.path, errno, reason)
        };
        let mut child = Command::new(root.path().join(&self.path))
            .args(&self.options)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(Errno::NOENT, error.to_string()))?;
        let Some(output) = child.stdout.take() else {
            return Err(failed(Errno::IO, "it has no output".into()));
        };
        // Its answer can be longer than a pipe holds.
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let read = output.take(LONGEST).read_to_end(&mut text);
            let _ = send.send(read.map(|_| String::from_utf8_lossy(&text).into_owned()));
        });
        let end = Instant::now() + patience;
        let late = || {
            let reason = format!("no answer within {} s", patience.as_secs());
            failed(Errno::TIMEDOUT, reason)
        };
        let Ok(text) = receive.recv_timeout(patience) else {
            let _ = child.kill();
            std::thread::spawn(move || child.wait());
            return Err(late());
        };
        let text = text.map_err(|error| failed(Errno::IO, error.to_string()))?;
        loop {
            match child.try_wait().map_err(|error| failed(Errno::IO, error.to_string()))? {
                Some(status) if status.success() => return Ok(text),
                Some(_) => {
                    let first = text.lines().find(|line| !line.trim().is_empty());
                    let words = first.unwrap_or("no error message").trim();
                    return Err(failed(Errno::IO, words.chars().take(300).collect()));
                }
                None if Instant::now() > end => {
                    let _ = child.kill();
                    std::thread::spawn(move || child.wait());
                    return Err(late());
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
