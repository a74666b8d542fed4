//! Compares claims with the host. Differences are reported, not fixed: another tool, or a person, made them.

use std::collections::BTreeSet;

use model::{Address, Claim, ClaimState, Inventory, Mechanism, Part, Refusal};

use super::Recovery;
use crate::RecoveryReport;
use crate::owners;
use crate::refusals;
use crate::store::StoredClaim;

impl Recovery {
    /// Reports functions of prepared claims that are no longer as they were prepared, and mediated devices of claims
    /// that no longer exist.
    pub fn compare_claims(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        let inventory = self.hardware.inventory()?;
        let all: Vec<Address> = inventory.functions.keys().copied().collect();
        for (address, mark) in self.claims.unrecorded_marks(&all)? {
            report.notes.push(refusals::marked_by_nothing(address, &mark).to_string());
        }
        for stored in &claims {
            let claim = &stored.claim;
            // A claim that an operation works on is between two states.
            let Some(_turn) = self.journal.turns.try_take(stored.subject()) else { continue };
            let now = self.store.read(|from| StoredClaim::by_id(from, claim.id))?;
            if now.is_none_or(|now| now.claim.state != ClaimState::Prepared) {
                continue;
            }
            let owner = owners::described(&self.store, &claim.owner);
            for part in &claim.parts {
                report.notes.extend(differences(&inventory, &owner, part));
            }
            report.notes.extend(self.other_marks(claim, &owner)?);
        }
        Ok(())
    }

    /// Functions of a claim that have the mark of another one: it was made after the backup that was restored.
    fn other_marks(&self, claim: &Claim, owner: &str) -> Result<Vec<String>, Refusal> {
        let functions: Vec<Address> = claim.taken().collect();
        let marks = self.hardware.host.marks(&functions);
        let marks = marks.map_err(|error| refusals::unreadable(&error))?;
        let others = marks.into_iter().filter(|(_, mark)| mark.claim != claim.id);
        Ok(others
            .map(|(address, mark)| {
                format!(
                    "{address}, claimed by {owner}, has the mark of another claim: {}",
                    mark.describe()
                )
            })
            .collect())
    }
}

/// How a prepared part differs from its prepared state.
fn differences(inventory: &Inventory, owner: &str, part: &Part) -> Vec<String> {
    let mut notes = Vec::new();
    for address in part.taken().collect::<BTreeSet<_>>() {
        let Some(function) = inventory.function(address) else {
            notes.push(format!("{address}, claimed by {owner}, is gone from the host"));
            continue;
        };
        if part.is_bound() && !function.on_vfio() {
            let driver = function.driver.as_deref().unwrap_or("no driver");
            notes.push(format!(
                "{address}, claimed by {owner}, is on {driver}, not on vfio: unprepare the claim, and prepare it again"
            ));
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
            notes.push(format!(
                "the mediated device {uuid}, claimed by {owner}, is gone from {parent}"
            ));
        }
    }
    notes
}
