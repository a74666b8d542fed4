//! The source of a reading command: this host, another tree, or a recording.

use std::path::PathBuf;

use clap::Args;
use host::LinuxHost;
use model::{Address, Code, Inventory, Refusal};

/// The option of all reading commands.
#[derive(Debug, Args)]
pub struct Source {
    /// Recording, or root directory of a host with its sys and proc
    #[arg(long, value_name = "DIR|FILE", default_value = "/")]
    pub root: PathBuf,
}

impl Source {
    /// Opens the host.
    pub fn open(&self) -> Result<LinuxHost, Refusal> {
        LinuxHost::reader(&self.root).map_err(|error| self.unreadable(&error))
    }

    /// Its inventory, at listing depth.
    pub fn inventory(&self, host: &LinuxHost) -> Result<Inventory, Refusal> {
        model::Host::inventory(host).map_err(|error| self.unreadable(&error))
    }

    /// Its inventory with detail of all functions, or of these.
    pub fn detail(&self, host: &LinuxHost, only: Option<&[Address]>) -> Result<Inventory, Refusal> {
        host.detail(only).map_err(|error| self.unreadable(&error))
    }

    /// The refusal of a root that cannot be read.
    pub fn unreadable(&self, reason: &dyn std::fmt::Display) -> Refusal {
        Refusal::new(
            Code::Internal,
            format!("cannot read {}: {reason}", self.root.display()),
            "set --root to a recording (`handover record`), or to a root directory with sys and proc",
        )
    }
}
