//! Container images as the root of machines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container image that is ready to be the root of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerImage {
    /// Its file system: an EROFS image, read-only, shared by all machines of the same layers.
    pub root: PathBuf,
    /// The size of that file in bytes, with its holes.
    pub root_size: u64,
    /// The digest of its manifest.
    pub digest: String,
    /// How its program runs.
    pub config: ContainerConfig,
    /// What is in it that a machine needs.
    pub contents: ContainerContents,
}

/// How the program of a container image runs, as the image says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// `name`, `uid`, `name:group`, `uid:gid`; empty is root.
    pub user: String,
    /// The working directory; empty is `/`.
    pub working_dir: String,
    /// Variables, as `NAME=VALUE`.
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The default of the arguments that follow.
    pub cmd: Vec<String>,
    /// The signal that asks the program to end, as `SIGTERM` or a number; none is SIGTERM.
    pub stop_signal: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The architecture, as images name it: `amd64`, `arm64`.
    pub architecture: String,
}

/// What is in a container image that a machine needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerContents {
    /// Its kernels, the newest name first.
    pub kernels: Vec<ImageKernel>,
    /// The versions of kernels that it has modules for.
    pub modules: Vec<String>,
    /// NVIDIA's kernel modules.
    pub nvidia_modules: Vec<NvidiaModule>,
    /// The version of NVIDIA's driver that its libraries belong to (`libcuda.so.*`, `libnvidia-ml.so.*`).
    pub nvidia_libraries: Option<String>,
}

/// A kernel in a container image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageKernel {
    /// Its path in the image.
    pub path: String,
    /// Its version, as its name says.
    pub version: String,
    /// Whether the image has its modules.
    pub has_modules: bool,
}

/// NVIDIA's module for one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvidiaModule {
    /// Its path in the image.
    pub path: String,
    /// The kernel's version.
    pub kernel: String,
    /// The driver's version; none if the module is compressed.
    pub version: Option<String>,
    /// Whether it is the open one; none if the module is compressed.
    pub open: Option<bool>,
}

impl ContainerConfig {
    /// The command line: the entry point, then the arguments.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

impl ContainerContents {
    /// The kernel that a machine of this image runs, if the image has one: one with modules first.
    #[must_use]
    pub fn kernel(&self) -> Option<&ImageKernel> {
        self.kernels.iter().find(|kernel| kernel.has_modules).or_else(|| self.kernels.first())
    }
}
