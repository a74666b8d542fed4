//! The port of those who look at a host more closely than a hand-over needs.

use crate::doctor::{Facts, Platform};
use crate::{HostError, Inventory};

/// A host that can be looked at in detail.
pub trait Examining: Send + Sync {
    /// The inventory with the detail of all functions. What sleeps is not woken; what does not answer has a note.
    ///
    /// # Errors
    /// Where not even the list of functions can be read.
    fn detail(&self) -> Result<Inventory, HostError>;

    /// The host around its devices. What could not be seen is named in it.
    fn platform(&self) -> Platform;

    /// Everything that the doctor looks at. What could not be seen is named in it.
    ///
    /// # Errors
    /// As [`detail`](Self::detail).
    fn facts(&self) -> Result<Facts, HostError>;
}
