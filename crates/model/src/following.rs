//! The port of those who want to know what changes.

use std::sync::Arc;
use std::time::Duration;

use crate::{Change, HostError, Inventory};

/// A host's inventory that is kept true as the host tells of changes, without reading all of it again.
pub trait Following: Send + Sync {
    /// Waits until the host has told of something, for ever without a limit. `false`: the time is over.
    ///
    /// # Errors
    /// Where the host cannot be listened to any more.
    fn wait(&self, limit: Option<Duration>) -> Result<bool, HostError>;

    /// Reads what the host has told of, and gives what changed, in order. It does not wait.
    ///
    /// # Errors
    /// Where the host cannot be listened to or read.
    fn catch_up(&self) -> Result<Vec<Change>, HostError>;

    /// The inventory as of the last [`catch_up`](Self::catch_up).
    fn snapshot(&self) -> Arc<Inventory>;
}
