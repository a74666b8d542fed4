//! The port for a detailed scan of a host.

use crate::doctor::{Facts, Platform};
use crate::{HostError, Inventory};

/// A host that can be scanned in detail.
pub trait Scan: Send + Sync {
    /// The inventory with the detail of all functions. Suspended functions are not woken; functions that do not respond
    /// get a note.
    ///
    /// # Errors
    /// If the list of functions cannot be read.
    fn detail(&self) -> Result<Inventory, HostError>;

    /// Facts about the host. It names what could not be read.
    fn platform(&self) -> Platform;

    /// The doctor's input. It names what could not be read.
    ///
    /// # Errors
    /// As [`detail`](Self::detail).
    fn facts(&self) -> Result<Facts, HostError>;
}
