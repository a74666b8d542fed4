//! The port for watching changes.

use std::sync::Arc;
use std::time::Duration;

use crate::{Change, HostError, Inventory};

/// An inventory that is updated by the host's events, without reading all of it again.
pub trait HostMonitor: Send + Sync {
    /// Waits for an event; without a limit, forever. Returns `false` on timeout.
    ///
    /// # Errors
    /// If events can no longer be received.
    fn wait(&self, limit: Option<Duration>) -> Result<bool, HostError>;

    /// Processes pending events and returns the changes in order. Does not wait.
    ///
    /// # Errors
    /// If events can no longer be received, or the host cannot be read.
    fn catch_up(&self) -> Result<Vec<Change>, HostError>;

    /// The inventory as of the last [`catch_up`](Self::catch_up).
    fn snapshot(&self) -> Arc<Inventory>;
}
