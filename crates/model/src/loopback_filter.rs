//! The port to the kernel that keeps the programs of a machine from the host's loopback addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The address by which a machine's programs reach the host's name server, if that has a loopback address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameServerAlias {
    /// The address that they use.
    pub alias: Ipv4Addr,
    /// The name server's own address.
    pub real: Ipv4Addr,
}

impl NameServerAlias {
    /// The port of name servers, the only one that the alias is for.
    pub const PORT: u16 = 53;
}

/// Keeps all processes of a cgroup from the host's loopback addresses.
///
/// Their sockets can neither be connected with TCP or UDP to a loopback address (127.0.0.0/8, ::1, and the unspecified
/// address, which Linux takes for loopback), nor send a UDP datagram to one. Accepting connections is not affected.
pub trait LoopbackFilter: fmt::Debug + Send + Sync {
    /// Checks that this process can filter on this kernel, without an effect.
    ///
    /// # Errors
    /// Why it cannot.
    fn check(&self) -> Result<(), FilterError>;

    /// Filters a cgroup of the unified hierarchy, which this process has entered, until the cgroup is removed: sockets that
    /// are created from now on.
    ///
    /// # Errors
    /// Why it cannot, or that the filter has no effect.
    fn attach(&self, cgroup: &Path, alias: Option<NameServerAlias>) -> Result<(), FilterError>;
}

/// Why loopback addresses cannot be filtered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The kernel does not accept the programs, or not from this process.
    #[error("the kernel does not load a BPF program for cgroups: {0}")]
    Load(String),
    /// The programs cannot be attached.
    #[error("cannot attach a BPF program to {}: {reason}", cgroup.display())]
    Attach {
        /// The cgroup.
        cgroup: PathBuf,
        /// Why.
        reason: String,
    },
    /// The programs are attached and do not work.
    #[error("the BPF programs of {} have no effect on its processes: {reason}", cgroup.display())]
    NoEffect {
        /// The cgroup.
        cgroup: PathBuf,
        /// What happened instead.
        reason: String,
    },
}
