//! Machines whose root is a container image: Handover's own init starts the image's command in the guest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a machine runs of a container image, as it was asked for. What is `None` or empty is as the image says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerRun {
    /// In place of the image's entry point. The image's command is then left out too, unless there is one here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Variables besides the image's, or in place of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The user, as `USER[:GROUP]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The directory in which the command starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The guest's name; the instance's without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The kernel: an image of the store that has one. Without it, the image's own, else the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

/// A kernel of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKernel {
    /// Its version, such as `6.12.57+deb13-amd64`.
    pub version: String,
    /// The file that boots it, if it is installed.
    pub kernel: Option<PathBuf>,
    /// The directory of its modules, if they are installed.
    pub modules: Option<PathBuf>,
}

/// What a VMM needs to start such a machine, besides its kernel and its writable layer, which is one of its disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerBoot {
    /// The image's file system. Several machines share it, and no one writes to it.
    pub root: PathBuf,
    /// The kernel's modules, likewise, if the image does not have them.
    pub modules: Option<PathBuf>,
    /// The content of a small disk of the machine's own: it tells the init in the guest what to do, and has room for how the
    /// command ended.
    pub config: Vec<u8>,
    /// The machine's address on vsock, by which the agent in the guest is reached, if this host has vsock.
    pub vsock: Option<u32>,
}

impl ContainerBoot {
    /// The serial number of the disk with the image's file system: the init in the guest finds each disk by its serial number.
    pub const ROOT: &str = "handover-root";
    /// That of the disk with the kernel's modules.
    pub const MODULES: &str = "handover-modules";
    /// That of the disk with what the init is to do.
    pub const CONFIG: &str = "handover-config";
    /// That of the writable layer.
    pub const UPPER: &str = "handover-upper";
    /// What all of them begin with: no other disk's serial number does.
    pub const PREFIX: &str = "handover-";

    /// How much of the end of the configuration disk is for the report of how the command ended, in bytes.
    pub const RESULT: u64 = 4096;
}
