//! Clearing a wedged or quarantined device, at a person's request.

use std::collections::BTreeSet;

use model::{Address, Assembly, Checked, ClaimState, Refusal};

use super::Devices;
use crate::refusals;
use crate::registrations;
use crate::store::{Durability, Health, StoredClaim};

impl Devices {
    /// Clears a wedged or quarantined device, named by its address or registration: retries the rollback of its
    /// hand-over, and removes the mark of another Handover's claim. Returns notes for the person who asked.
    ///
    /// # Errors
    /// `not_found`; `in_use` if a device claimed by another Handover is in use; `device_wedged` or `undo_failed` if the
    /// device still cannot be restored.
    pub fn clear(&self, key: &str) -> Result<Vec<String>, Refusal> {
        let address = registrations::address_of(&self.store, key)?;
        let claims = self.store.read(StoredClaim::all)?;
        let known = self.store.read(Health::all)?.iter().any(|health| health.address == address)
            || claims.iter().any(|claim| claim.claim.covers(address));
        let inventory = self.hardware.inventory()?;
        if !known && inventory.function(address).is_none() {
            return Err(model::no_such_function(address));
        }
        let mut functions = BTreeSet::from([address]);
        if let Some(assembly) = Assembly::of(&inventory, address) {
            functions.extend(assembly.taken().map(|member| member.address));
        }
        for claim in claims.iter().filter(|claim| claim.claim.covers(address)) {
            functions.extend(claim.claim.taken());
        }
        for address in &functions {
            if self.hardware.any_locked([*address])? {
                return Err(refusals::wedged_at(
                    *address,
                    &format!("an earlier step on {address} is still running in the kernel"),
                ));
            }
            // No baseline: the card may have been replaced. An absent one is not silent and can be cleared.
            if self.hardware.host.check(*address, None) == Ok(Checked::Silent) {
                return Err(refusals::silent(
                    *address,
                    &format!(
                        "{address} still does not answer: its configuration space reads as all ones"
                    ),
                ));
            }
        }
        let functions: Vec<Address> = functions.into_iter().collect();
        for claim in claims {
            let affected = functions.iter().any(|address| claim.claim.holds(*address));
            if affected && claim.claim.state == ClaimState::Wedged {
                self.claims.retry(claim)?;
            }
        }
        for address in &functions {
            self.vf_counts.retry(Some(*address))?;
        }
        let notes = self.marks.clear_marks(&functions)?;
        self.store.write(Durability::Power, |tx| {
            functions.iter().try_for_each(|address| Health::clear(tx, *address))
        })?;
        Ok(notes)
    }
}
