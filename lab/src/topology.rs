//! A topology: the devices of L1 and their connections, in a file below `lab/topologies`. `workstation.toml` explains
//! the format.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{gpu, images::sources};

/// A topology file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// A description in one line.
    pub summary: String,
    /// L1's memory, in QEMU's format.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// The number of L1's processors.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// QEMU's processor model. `max` emulates AMD's virtualization, so that L1 has `/dev/kvm`.
    #[serde(default = "default_cpu")]
    pub cpu: String,
    /// QEMU's machine type.
    #[serde(default = "default_machine")]
    pub machine: String,
    /// Added to the kernel's command line.
    #[serde(default)]
    pub kernel_args: Vec<String>,
    /// NUMA nodes; one by default.
    #[serde(default)]
    pub numa: Vec<Node>,
    /// Empty disks for the devices.
    #[serde(default)]
    pub drive: Vec<Drive>,
    /// Networks for the devices.
    #[serde(default)]
    pub netdev: Vec<Map<String, Value>>,
    /// Devices, in the order in which QEMU creates them.
    #[serde(default)]
    pub device: Vec<Map<String, Value>>,
    /// Functions of emulated GPUs.
    #[serde(default)]
    pub gpu: Vec<Gpu>,
}

/// A NUMA node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its processors, in QEMU's format.
    pub cpus: String,
    /// Its memory.
    pub memory: String,
}

/// A disk, empty at each start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// The id that a device refers to.
    pub id: String,
    /// Its size.
    pub size: String,
}

/// A function of an emulated GPU, and its position.
#[derive(Debug, Clone, Deserialize)]
pub struct Gpu {
    /// QEMU's name for it.
    pub id: String,
    /// The function's settings.
    #[serde(default)]
    pub settings: gpu::Settings,
    /// Its position: `bus`, `addr`, `multifunction`.
    #[serde(flatten)]
    pub place: Map<String, Value>,
}

fn default_memory() -> String {
    "3G".to_owned()
}

fn default_cpus() -> u32 {
    2
}

fn default_cpu() -> String {
    "max".to_owned()
}

fn default_machine() -> String {
    "q35".to_owned()
}

impl Topology {
    /// Reads the topology with this name, or from the file if it is a path (with a `/`).
    pub fn load(name: &str) -> Result<Self> {
        let path = if name.contains('/') {
            PathBuf::from(name)
        } else {
            folder().join(format!("{name}.toml"))
        };
        if !path.exists() {
            bail!("no topology {name:?}; available: {}", names()?.join(", "));
        }
        Self::read(&path)
    }

    fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let topology: Self =
            toml::from_str(&text).with_context(|| format!("in the topology {}", path.display()))?;
        for device in &topology.device {
            if !device.contains_key("driver") {
                bail!("in the topology {}: a [[device]] lacks `driver`", path.display());
            }
        }
        for gpu in &topology.gpu {
            gpu.settings.check().with_context(|| {
                format!("in the topology {}: [[gpu]] {}", path.display(), gpu.id)
            })?;
        }
        Ok(topology)
    }
}

/// The names of all topologies, sorted.
pub fn names() -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .context("cannot list the topologies")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

fn folder() -> PathBuf {
    sources().join("topologies")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topology_reads() {
        let names = names().unwrap();
        assert!(names.iter().any(|n| n == "workstation"), "{names:?}");
        for name in names {
            Topology::load(&name).unwrap();
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Topology::load("nonesuch").unwrap_err().to_string();
        assert!(error.contains("workstation"), "{error}");
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(toml::from_str::<Topology>("summary = 's'\nmemroy = '1G'").is_err());
        let gpu = "summary = 's'\n[[gpu]]\nid = 'g'\n[gpu.settings]\nvendro = '10de'";
        assert!(toml::from_str::<Topology>(gpu).is_err());
    }
}
