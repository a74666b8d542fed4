//! The inventory of a host, kept true by what the kernel tells: only what an uevent is about is read again.
//!
//! What an uevent says is not taken for the truth, only for the place to look at: it may be old when it is read, and
//! what it told of may be undone already. Each read shows the present, and whatever changes after it has an uevent of
//! its own that is still to come. So any order and any delay lead to the same inventory as a fresh reading.
//!
//! What the kernel changes without a word is as it was when its function was last read: its power, `autoprobe`.

mod follower;
mod owners;
mod state;
mod subject;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Change, HostError, Inventory};

use crate::inventory::{self, Catalogs, Scope};
use crate::root::Root;
use crate::uevent::Uevent;
pub use follower::Follower;
use state::State;

/// A host's inventory that can be brought up to date.
#[derive(Debug)]
pub struct Live {
    root: Root,
    catalogs: Catalogs,
    state: Mutex<State>,
}

impl Live {
    /// Reads the whole inventory.
    ///
    /// # Errors
    /// Where not even the list of functions can be read.
    pub fn read(root: Root) -> Result<Self, HostError> {
        let catalogs = Catalogs::default();
        let inventory = inventory::read(&root, &catalogs, Scope::Listing)?;
        Ok(Self { root, catalogs, state: Mutex::new(State::new(inventory)) })
    }

    /// Reads again what these uevents are about, and what is still [probed](Self::is_probing), and gives what changed.
    pub fn apply(&self, events: &[Uevent]) -> Vec<Change> {
        self.state().apply(&self.root, &self.catalogs, events)
    }

    /// Whether a driver may be probing a function: if that fails, the kernel says nothing. It has to be looked at again
    /// soon, by [`apply`](Self::apply).
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.state().is_probing()
    }

    /// Reads everything again, and gives what changed.
    ///
    /// # Errors
    /// As [`read`](Self::read); the inventory then stays as it was.
    pub fn rescan(&self) -> Result<Vec<Change>, HostError> {
        let inventory = inventory::read(&self.root, &self.catalogs, Scope::Listing)?;
        Ok(self.state().replace(inventory))
    }

    /// The inventory as it is known now. It is copied once for all who look at it until it changes.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Inventory> {
        self.state().snapshot()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
