//! Health of claimed devices: an unrecovered error or a lost link shows in configuration space before the machine or
//! its owner notices.

use model::{Address, Checked, ClaimState, Kind, Refusal};

use super::Devices;
use crate::HealthState;
use crate::owners;
use crate::store::{Durability, Health, StoredClaim};

impl Devices {
    /// Quarantines functions of prepared claims that no longer answer. Returns the new ones, each with the reason.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn quarantine_silent(&self) -> Result<Vec<(Address, String)>, Refusal> {
        let known = self.store.read(Health::all)?;
        let mut lost = Vec::new();
        for claim in self.store.read(StoredClaim::all)? {
            if claim.claim.state != ClaimState::Prepared {
                continue;
            }
            for address in claim.claim.taken() {
                if known.iter().any(|health| health.address == address) {
                    continue;
                }
                // An absent function is not silent: the kernel has reported its removal.
                if self.hardware.host.check(address, None) == Ok(Checked::Silent) {
                    let owner = owners::described(&self.store, &claim.claim.owner);
                    let reason = format!(
                        "it no longer answers, while claimed by {owner}: its configuration space reads as all ones"
                    );
                    lost.push((address, reason));
                }
            }
        }
        if !lost.is_empty() {
            self.store.write(Durability::Power, |tx| {
                lost.iter().try_for_each(|(address, reason)| {
                    Health::mark(tx, *address, HealthState::Quarantined, reason)
                })
            })?;
        }
        Ok(lost)
    }

    /// Quarantines a function that the kernel could not recover from a PCIe error: it is disconnected until its slot is
    /// reset. Returns the reason, or `None` if it was known already.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn recovery_failed(&self, address: Address) -> Result<Option<String>, Refusal> {
        // The kernel also reports a port's error for each function behind it, and ports are never handed over.
        let shown = self.hardware.functions(&[address])?;
        let known = self.store.read(Health::all)?;
        if shown.function(address).is_none_or(|function| function.kind() == Kind::Bridge)
            || known.iter().any(|health| health.address == address)
        {
            return Ok(None);
        }
        let reason = "the kernel could not recover it from a PCIe error".to_owned();
        self.store.write(Durability::Power, |tx| {
            Health::mark(tx, address, HealthState::Quarantined, &reason)
        })?;
        Ok(Some(reason))
    }
}
