//! The inventory of a host, kept up to date by the kernel's uevents: only the object of a uevent is read again.
//!
//! A uevent only says what to read again, because its contents may be outdated when it is received. Each read shows the
//! present state, and later changes have uevents of their own. So any order and any delay of uevents lead to the same
//! inventory as a fresh read.
//!
//! Attributes that change without a uevent are as old as the last read of their function: power, `autoprobe`.

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

/// A host's inventory that can be updated.
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
    /// If the list of functions cannot be read.
    pub fn read(root: Root) -> Result<Self, HostError> {
        let catalogs = Catalogs::default();
        let inventory = inventory::read(&root, &catalogs, Scope::Listing)?;
        Ok(Self { root, catalogs, state: Mutex::new(State::new(inventory)) })
    }

    /// Reads the objects of these uevents again, and functions that are still [probed](Self::is_probing); returns the
    /// changes.
    pub fn apply(&self, events: &[Uevent]) -> Vec<Change> {
        self.state().apply(&self.root, &self.catalogs, events)
    }

    /// Whether a driver may be probing a function. The kernel sends no uevent if that fails, so call
    /// [`apply`](Self::apply) again soon.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.state().is_probing()
    }

    /// Reads everything again, and returns the changes.
    ///
    /// # Errors
    /// As [`read`](Self::read); the inventory is unchanged then.
    pub fn rescan(&self) -> Result<Vec<Change>, HostError> {
        let inventory = inventory::read(&self.root, &self.catalogs, Scope::Listing)?;
        Ok(self.state().replace(inventory))
    }

    /// The present inventory. All callers share one copy until it changes.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Inventory> {
        self.state().snapshot()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
