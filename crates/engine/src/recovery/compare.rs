//! Compares claims with the host. Differences are reported, not fixed: another tool, or a person, made them.

use std::collections::BTreeSet;

use model::{Address, Claim, ClaimState, Refusal};

use super::Recovery;
use crate::RecoveryReport;
use crate::claims::differences;
use crate::owners;
use crate::refusals;
use crate::store::StoredClaim;

impl Recovery {
    /// Reports functions of prepared claims that are no longer as they were prepared, and mediated devices of claims
    /// that no longer exist.
    pub fn compare_claims(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        if claims.is_empty() {
            return Ok(());
        }
        let inventory = self.hardware.inventory()?;
        for stored in &claims {
            let claim = &stored.claim;
            // A claim that an operation works on is between two states.
            let Some(_turn) = self.journal.turns.try_take(stored.subject()) else { continue };
            let now = self.store.read(|from| StoredClaim::by_id(from, claim.id))?;
            if now.is_none_or(|now| now.claim.state != ClaimState::Prepared) {
                continue;
            }
            let owner = owners::described(&self.store, &claim.owner);
            let found = claim.parts.iter().flat_map(|part| differences(&inventory, &owner, part));
            report.notes.extend(
                found.map(|one| format!("{one}: unprepare the claim, and prepare it again")),
            );
            report.notes.extend(self.other_marks(claim, &owner)?);
        }
        Ok(())
    }

    /// Functions of a claim that have the mark of another one: it was made after the backup that was restored.
    fn other_marks(&self, claim: &Claim, owner: &str) -> Result<Vec<String>, Refusal> {
        let taken: Vec<Address> = claim.taken().collect();
        let marked = self.claims.marks().marked(&taken)?.into_values();
        Ok(marked
            .map(|why| {
                format!(
                    "{owner} claims a function, but {}: release this claim, then {}",
                    why.message, why.remedy
                )
            })
            .collect())
    }

    /// Reports functions that no claim has, with the mark of a claim that is not recorded: it was made after the backup
    /// that was restored. Reads every function, so it is for a person who asks.
    pub fn note_unrecorded_marks(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        let taken: BTreeSet<Address> =
            claims.iter().flat_map(|stored| stored.claim.taken()).collect();
        let inventory = self.hardware.inventory()?;
        let free: Vec<Address> =
            inventory.functions.keys().copied().filter(|one| !taken.contains(one)).collect();
        for (address, mark) in self.claims.marks().marked_by_nothing(&free)? {
            report.notes.push(refusals::marked_by_nothing(address, &mark).to_string());
        }
        Ok(())
    }
}
