//! What a restored backup does not know: entries of the host's files that claims made since the backup.

use std::path::Path;

use rusqlite::Connection;
use uuid::Uuid;

use super::StoredClaim;

/// Notes what claims of the replaced store, which the restored one does not have, may have left in the host's files.
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
        let defined = part.partition.as_ref().filter(|partition| partition.is_defined());
        if let Some((partition, uuid)) = defined.and_then(|one| Some((one, one.mdev()?))) {
            let parent = partition.parent;
            notes.push(format!(
                "the mediated device {uuid} of {parent} may still be defined: {since}; \
                 `mdevctl undefine --uuid {uuid} --parent {parent}` removes the definition"
            ));
        }
    }
    notes
}
