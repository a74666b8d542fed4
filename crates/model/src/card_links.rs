//! The port to the kernel that connects the network cards of machines to bridges and interfaces of the host.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::{CardLink, Mac, NetworkUsage};

/// A card's end on the host, which its VMM inherits.
#[derive(Debug)]
pub struct OpenCard {
    /// The tap or macvtap interface.
    pub card: OwnedFd,
    /// vhost-net, by which the kernel itself moves the packets; `None` if this kernel has none.
    pub vhost: Option<OwnedFd>,
}

/// Connects network cards to the host's networks. Files are below `root`; the interfaces are those of this process's network
/// namespace.
pub trait CardLinks: fmt::Debug + Send + Sync {
    /// Checks that a card can be connected so, without an effect.
    ///
    /// # Errors
    /// Why it cannot.
    fn check(&self, root: &Path, link: &CardLink) -> Result<(), LinkError>;

    /// Makes the interface of this name for a card with this hardware address, and connects it. A tap goes with its last
    /// descriptor; a macvtap interface stays until it is removed.
    ///
    /// # Errors
    /// Why it cannot. Nothing is left over.
    fn open(
        &self,
        root: &Path,
        name: &str,
        link: &CardLink,
        mac: Mac,
    ) -> Result<OpenCard, LinkError>;

    /// Removes the macvtap interface of this name, if it is that of the card with this hardware address. Idempotent; another
    /// interface stays. Without an address, any macvtap interface of the name is meant.
    ///
    /// # Errors
    /// Why it cannot.
    fn remove(&self, root: &Path, name: &str, mac: Option<Mac>) -> Result<(), LinkError>;

    /// What is missing for the interface of this name, by which a running machine's card is connected, in words; `None` if nothing is.
    fn lost(&self, root: &Path, name: &str, link: &CardLink) -> Option<String>;

    /// What a guest has received and sent by the interface of this name; `None` if there is none.
    fn usage(&self, root: &Path, name: &str) -> Option<NetworkUsage>;
}

/// Why a network card cannot be connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no such bridge or interface, or it cannot be used.
    #[error("{reason}")]
    Unusable {
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The kernel refused.
    #[error("cannot {action} {interface}: {reason}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The interface.
        interface: String,
        /// Why.
        reason: String,
    },
}
