//! Health of claimed devices: an error that the kernel could not recover, or a lost link, shows in configuration space before a
//! machine or its owner reports it.

use model::{Address, Checked, ClaimState, Kind, Refusal};

use super::Devices;
use crate::HealthState;
use crate::store::{Durability, Health, StoredClaim};

impl Devices {
    /// Quarantines the functions of prepared claims that do not answer any more. Returns what is new.
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
                // One that is gone from its bus was told of by the kernel, and cannot be asked.
                if self.hardware.host.check(address, None) == Ok(Checked::Silent) {
                    let owner = &claim.claim.owner;
                    let reason = format!(
                        "it does not answer any more while {owner} has it: its configuration space reads as ones"
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

    /// Quarantines a function that the kernel could not recover from a PCIe error: it is cut off from its bus until its slot is
    /// reset. Returns the reason where that is new.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn recovery_failed(&self, address: Address) -> Result<Option<String>, Refusal> {
        // A port's error is told of each function behind it too, and a port is nobody's.
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
