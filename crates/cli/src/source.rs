//! Where a reading command reads: this host, another tree, or a recording.

use std::path::PathBuf;

use clap::Args;
use host::LinuxHost;
use model::{Address, Code, Inventory, Refusal};

/// What every reading command takes.
#[derive(Debug, Args)]
pub struct Source {
    /// What is read: a recording, or the directory that has a host's sys and proc in it
    #[arg(long, value_name = "DIR|FILE", default_value = "/")]
    pub root: PathBuf,
}

impl Source {
    /// The host that is read.
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
            format!("{} cannot be read: {reason}", self.root.display()),
            "--root is a recording (handover record), or the directory that has a host's sys and proc in it",
        )
    }
}
