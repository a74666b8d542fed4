//! What a restored backup does not know: what claims made since the backup created beside bound functions.

use std::path::Path;

use model::{Mechanism, Partition, VfSettings};
use rusqlite::Connection;
use uuid::Uuid;

use super::StoredClaim;

/// Notes what claims of the replaced store, which the restored one does not have, may have left on the host.
pub fn notes(replaced: &Connection, restored: &Connection, kept: &Path) -> Vec<String> {
    match (StoredClaim::all(replaced), StoredClaim::all(restored)) {
        (Ok(replaced), Ok(restored)) => {
            let known: Vec<Uuid> = restored.iter().map(|stored| stored.claim.id).collect();
            let lost = replaced.iter().filter(|stored| !known.contains(&stored.claim.id));
            lost.flat_map(notes_of).collect()
        }
        // It is damaged, or of an older version.
        (Err(error), _) | (_, Err(error)) => vec![format!(
            "cannot compare with {}: {error}; claims made since the backup may have left entries: check \
             `handover boot-list --list` and `mdevctl list --defined`",
            kept.display()
        )],
    }
}

fn notes_of(stored: &StoredClaim) -> Vec<String> {
    let claim = &stored.claim;
    let since = format!("claim {} of {} was made since the backup", claim.id, claim.owner);
    let mut notes = Vec::new();
    for part in &claim.parts {
        if part.at_boot {
            notes.extend(part.taken().map(|address| {
                format!(
                    "{address} may still be on the boot list: {since}; `handover boot-list --remove {address}` removes it"
                )
            }));
        }
        notes.extend(part.partition.iter().flat_map(|partition| of_partition(partition, &since)));
    }
    notes
}

/// What no release will undo at a partition.
fn of_partition(partition: &Partition, since: &str) -> Vec<String> {
    let parent = partition.parent;
    match &partition.how {
        Mechanism::Mdev { existing: true, .. } => Vec::new(),
        Mechanism::Mdev { uuid, define, .. } => {
            let made = format!(
                "the mediated device {uuid} of {parent} may still exist: {since}; \
                 `echo 1 > /sys/bus/mdev/devices/{uuid}/remove` removes it when it is unused"
            );
            let defined = format!(
                "the mediated device {uuid} of {parent} may still be defined: {since}; \
                 `mdevctl undefine --uuid {uuid} --parent {parent}` removes the definition"
            );
            [Some(made), define.then_some(defined)].into_iter().flatten().collect()
        }
        Mechanism::Vf { settings, .. } if *settings == VfSettings::default() => Vec::new(),
        Mechanism::Vf { index, .. } => vec![format!(
            "virtual function {index} of {parent} may still have its settings (MAC, VLAN, trust): {since}; \
             `ip link show` shows them, `ip link set INTERFACE vf {index} vlan 0 trust off` resets them"
        )],
        Mechanism::Vgpu { function, name, .. } => vec![format!(
            "{function} may still be the vGPU {name}: {since}; \
             `echo 0 > /sys/bus/pci/devices/{function}/nvidia/current_vgpu_type` frees it when it is unused"
        )],
    }
}
