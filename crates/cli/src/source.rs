//! The source of a reading command: this host, another tree, or a recording.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use host::LinuxHost;
use model::{Address, Code, Inventory, Refusal};

use crate::output;

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
        let host = LinuxHost::reader(&self.root).and_then(|host| {
            // A tree can lack the file of names; a recording has what its host had.
            if self.root.is_dir() { host.with_names_of(Path::new("/")) } else { Ok(host) }
        });
        let host = host.map_err(|error| self.unreadable(&reason(&error)))?;
        if host.root().exists("sys/bus/pci/devices") {
            return Ok(host);
        }
        Err(self.unreadable(&if host.root().exists("sys") {
            "it has no PCI bus (no sys/bus/pci/devices)"
        } else {
            "it is not the root of a host (no sys in it)"
        }))
    }

    /// Its inventory, at listing depth.
    pub fn inventory(&self, host: &LinuxHost) -> Result<Inventory, Refusal> {
        model::Host::inventory(host).map_err(|error| self.unreadable(&error))
    }

    /// As [`inventory`](Self::inventory), with what decides whether a device can be handed over now.
    pub fn listing(&self, host: &LinuxHost) -> Result<Inventory, Refusal> {
        host.listing().map_err(|error| self.unreadable(&error))
    }

    /// Its inventory with detail of all functions, or of these.
    pub fn detail(&self, host: &LinuxHost, only: Option<&[Address]>) -> Result<Inventory, Refusal> {
        host.detail(only).map_err(|error| self.unreadable(&error))
    }

    /// Notes on standard error the functions that could not be identified: lists may file them under the host's own.
    pub fn note_unidentified(inventory: &Inventory) {
        for function in inventory.functions.values().filter(|function| function.is_unidentified()) {
            output::note(&format!(
                "note: {} cannot be identified ({}); `handover show {0}` has the rest",
                function.address,
                function.notes.join(", ")
            ));
        }
    }

    /// Whether it is the running system.
    pub fn is_this_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Whether users of devices can be missing: only root sees the open files of other users' processes.
    pub fn hides_users(&self) -> bool {
        self.is_this_host() && !rustix::process::geteuid().is_root()
    }

    /// Notes on standard error that users of devices can be missing.
    pub fn note_hidden_users(&self) {
        if self.hides_users() {
            output::note(
                "note: without root, Handover does not see which devices other users' processes use, and shows no claims: run it with sudo",
            );
        }
    }

    /// The refusal of a root that cannot be read.
    pub fn unreadable(&self, reason: &dyn std::fmt::Display) -> Refusal {
        let code = if self.is_this_host() { Code::Internal } else { Code::InvalidRequest };
        Refusal::new(
            code,
            format!("cannot read {}: {reason}", self.root.display()),
            "set --root to a recording (`handover record`), or to a root directory with sys and proc",
        )
    }
}

/// Why a root cannot be opened.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".into(),
        io::ErrorKind::NotADirectory => "it is neither a directory nor a file".into(),
        io::ErrorKind::PermissionDenied => "permission denied; run it as root".into(),
        _ => error.to_string(),
    }
}
