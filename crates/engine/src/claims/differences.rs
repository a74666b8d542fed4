//! How a prepared part differs from its prepared state: another tool changed it, or a backup was restored.

use std::collections::BTreeSet;

use model::{Inventory, Mechanism, Part};

/// Every difference, in words; `owner`: the owner of the claim.
pub fn differences(inventory: &Inventory, owner: &str, part: &Part) -> Vec<String> {
    let mut found = Vec::new();
    for address in part.taken().collect::<BTreeSet<_>>() {
        let Some(function) = inventory.function(address) else {
            found.push(format!("{address}, claimed by {owner}, is gone from the host"));
            continue;
        };
        if part.is_bound() && !function.on_vfio() {
            let driver = function.driver.as_deref().unwrap_or("no driver");
            found.push(format!("{address}, claimed by {owner}, is on {driver}, not on vfio"));
        }
    }
    let mdev = part.partition.as_ref().and_then(|partition| match partition.how {
        Mechanism::Mdev { uuid, .. } => Some((partition.parent, uuid)),
        Mechanism::Vf { .. } | Mechanism::Vgpu { .. } => None,
    });
    if let Some((parent, uuid)) = mdev {
        let there = inventory
            .function(parent)
            .is_some_and(|function| function.mdevs.iter().any(|mdev| mdev.uuid == uuid));
        if !there {
            found.push(format!(
                "the mediated device {uuid}, claimed by {owner}, is gone from {parent}"
            ));
        }
    }
    found
}
