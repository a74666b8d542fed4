//! What a restored backup does not know: what claims made since the backup created beside bound functions.

use model::{ClaimState, Mechanism, Partition, VfSettings};
use rusqlite::Connection;
use uuid::Uuid;

use super::StoredClaim;

/// Notes what claims of the replaced store, which the restored one does not have, may have left on the host.
pub fn notes(replaced: &Connection, restored: &Connection) -> rusqlite::Result<Vec<String>> {
    let known: Vec<Uuid> =
        StoredClaim::all(restored)?.iter().map(|stored| stored.claim.id).collect();
    let all = StoredClaim::all(replaced)?;
    let lost = all.iter().filter(|stored| !known.contains(&stored.claim.id));
    Ok(lost.flat_map(notes_of).collect())
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
        let partition = part.partition.iter();
        notes.extend(partition.flat_map(|one| of_partition(one, claim.state, &since)));
    }
    notes
}

/// What no release will undo at a partition.
fn of_partition(partition: &Partition, state: ClaimState, since: &str) -> Vec<String> {
    let parent = partition.parent;
    // A reserved claim has made nothing, or has lost it with a boot; only a definition outlasts that.
    let made_it = state != ClaimState::Reserved;
    match &partition.how {
        Mechanism::Mdev { existing: true, .. } | Mechanism::Vgpu { existing: true, .. } => {
            Vec::new()
        }
        Mechanism::Mdev { uuid, define, .. } => {
            let made = format!(
                "the mediated device {uuid} of {parent} may still exist: {since}; \
                 `echo 1 > /sys/bus/mdev/devices/{uuid}/remove` removes it when it is unused"
            );
            let defined = format!(
                "the mediated device {uuid} of {parent} may still be defined: {since}; \
                 `mdevctl undefine --uuid {uuid} --parent {parent}` removes the definition"
            );
            [made_it.then_some(made), define.then_some(defined)].into_iter().flatten().collect()
        }
        Mechanism::Vf { .. } | Mechanism::Vgpu { .. } if !made_it => Vec::new(),
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
