//! Activating and deactivating a fabric set by Fabric Manager's program.

use model::{HostError, Observed};

use crate::fabric::FabricManager;
use crate::root::Root;

/// Asks Fabric Manager for the set's state. Without the program or the set there is nothing that could be active.
pub fn observe(root: &Root, set: u32, to: bool) -> Result<Observed, HostError> {
    let Some(manager) = FabricManager::find(root)? else { return Ok(Observed::Absent) };
    let listed = manager.list(root)?;
    let found = listed.iter().find(|one| one.id == set);
    Ok(found.map_or(Observed::Absent, |one| match one.is_active == to {
        true => Observed::After,
        false => Observed::Before,
    }))
}

/// Describes a set that is not there.
pub fn missing(set: u32) -> String {
    format!("no fabric set {set}: Fabric Manager does not list it")
}

/// Activates or deactivates it.
pub fn set(root: &Root, set: u32, to: bool) -> Result<(), HostError> {
    match FabricManager::find(root)? {
        Some(manager) => manager.switch(root, set, to),
        None => Ok(()),
    }
}
