//! Looking after what is claimed: does it still answer? An error that the kernel could not mend, or a link that was lost,
//! shows in configuration space before a machine or its owner tells.

use model::{Address, Checked, ClaimState, Kind, Refusal};

use crate::core::Core;
use crate::store::{Durability, Health, StoredClaim};
use crate::{HealthState, RecoveryReport};

impl Core {
    /// Ends what was left open, looks at the functions of prepared claims, and marks those that do not answer any more.
    /// Gives what is new.
    pub fn look_after_claims(&self) -> Result<Vec<(Address, String)>, Refusal> {
        let mut report = RecoveryReport::default();
        self.recover_left_open(None, &mut report)?;
        report.finished.iter().chain(&report.undone).chain(&report.notes).for_each(|what| {
            tracing::warn!("after the journal could not be written: {what}");
        });
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
                if self.host.check(address, None) == Ok(Checked::Silent) {
                    let owner = &claim.claim.owner;
                    let reason = format!(
                        "it does not answer any more while {owner} has it: its configuration space reads as ones"
                    );
                    lost.push((address, reason));
                }
            }
        }
        if !lost.is_empty() {
            self.write(Durability::Power, |tx| {
                lost.iter().try_for_each(|(address, reason)| {
                    Health::mark(tx, *address, HealthState::Quarantined, reason)
                })
            })?;
        }
        Ok(lost)
    }

    /// Keeps a function for a person that the kernel could not recover from an error: it is cut off from its bus until its
    /// slot is reset. The reason, where that is new.
    pub fn recovery_failed(&self, address: Address) -> Result<Option<String>, Refusal> {
        // A port's error is told of each function behind it too, and a port is nobody's.
        let shown = self.functions(&[address])?;
        let known = self.store.read(Health::all)?;
        if shown.function(address).is_none_or(|function| function.kind() == Kind::Bridge)
            || known.iter().any(|health| health.address == address)
        {
            return Ok(None);
        }
        let reason = "the kernel could not recover it from a PCIe error".to_owned();
        self.write(Durability::Power, |tx| {
            Health::mark(tx, address, HealthState::Quarantined, &reason)
        })?;
        Ok(Some(reason))
    }
}
