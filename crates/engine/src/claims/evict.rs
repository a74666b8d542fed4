//! Ending the users of a device that can be asked to.

use std::collections::BTreeSet;

use model::{Address, Holder, Refusal, Step};
use uuid::Uuid;

use super::Claims;
use crate::eviction::{is_persistence_daemon, would_go};
use crate::refusals;
use crate::store::OpenOperation;

/// The unit of NVIDIA's persistence daemon.
const PERSISTENCE_UNIT: &str = "nvidia-persistenced.service";

impl Claims {
    /// Asks those `holders` to end that can be asked, and refuses where others use one of the functions.
    pub(crate) fn evict_holders(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        taken: &[Address],
        holders: &[Holder],
        evict: bool,
    ) -> Result<(), Refusal> {
        if let Some(other) = holders.iter().find(|holder| !would_go(holder, evict)) {
            return Err(refusals::used(other));
        }
        if holders.is_empty() {
            return Ok(());
        }
        let (persistent, others): (Vec<&Holder>, Vec<&Holder>) =
            holders.iter().partition(|holder| is_persistence_daemon(holder));
        let mut asked = Vec::new();
        for holder in others {
            let (Some(pid), Some(started)) = (holder.pid, holder.started) else { continue };
            if asked.contains(&pid) {
                continue;
            }
            asked.push(pid);
            let (address, user) = (holder.address, holder.user.clone());
            self.journal.make(operation, claim, &Step::Evict { address, pid, started, user })?;
        }
        self.end_persistence(operation, claim, taken, &persistent)?;
        // A user that came meanwhile, or that has another process open the device for it.
        match self.hardware.holders(taken)?.first() {
            None => Ok(()),
            Some(holder) => Err(refusals::used(holder)),
        }
    }

    /// Switches persistence mode off for these GPUs alone; only where the daemon still holds one it is stopped, for then
    /// it does so for all GPUs of the host.
    fn end_persistence(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        taken: &[Address],
        persistent: &[&Holder],
    ) -> Result<(), Refusal> {
        let gpus: BTreeSet<Address> = persistent.iter().map(|holder| holder.address).collect();
        let Some(first) = gpus.first().copied() else { return Ok(()) };
        let mut failed = false;
        for address in gpus {
            let off = Step::SetPersistence { address, from: true, to: false };
            failed |= self.journal.make(operation, claim, &off).is_err();
        }
        if !failed && !self.hardware.holders(taken)?.iter().any(is_persistence_daemon) {
            return Ok(());
        }
        let unit = PERSISTENCE_UNIT.to_owned();
        let stop = Step::SetUnit { address: first, unit, from: true, to: false };
        Ok(self.journal.make(operation, claim, &stop)?)
    }
}
