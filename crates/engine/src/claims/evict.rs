//! Evicting the users of a device.

use std::collections::BTreeSet;

use model::{Address, Holder, HostError, Refusal, Step};
use uuid::Uuid;

use super::Claims;
use crate::consent::{Consent, Named, is_persistence_daemon};
use crate::journal::StepError;
use crate::refusals;
use crate::store::OpenOperation;

/// The unit of NVIDIA's persistence daemon.
const PERSISTENCE_UNIT: &str = "nvidia-persistenced.service";

impl Claims {
    /// Asks the `holders` of these functions to exit. Refuses if the request does not consent to one of them.
    pub(crate) fn evict_holders(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        taken: &[Address],
        holders: &[Holder],
        consent: Consent,
        named: &Named,
    ) -> Result<(), Refusal> {
        if let Some(other) = holders.iter().find(|holder| !consent.covers(holder, named)) {
            return Err(refusals::used(other, consent, named));
        }
        let holders: Vec<&Holder> = holders.iter().filter(|one| consent.evicts(one)).collect();
        if holders.is_empty() {
            return Ok(());
        }
        let (persistent, others): (Vec<&Holder>, Vec<&Holder>) =
            holders.into_iter().partition(|holder| is_persistence_daemon(holder));
        let mut asked = Vec::new();
        for holder in others {
            let (Some(pid), Some(started)) = (holder.pid, holder.started) else { continue };
            if asked.contains(&pid) {
                continue;
            }
            asked.push(pid);
            let (address, user) = (holder.address, holder.user.clone());
            let evict = Step::Evict { address, pid, started, user };
            let ended = self.journal.perform(operation, claim, &evict);
            self.still_used(taken, pid, ended)?;
        }
        self.end_persistence(operation, claim, taken, &persistent)?;
        // A new user, or one whose device node another process opens for it.
        // The network is still there: it ends with the function's driver.
        let left = self.hardware.holders(taken)?;
        match left.iter().find(|one| consent.evicts(one) || !consent.covers(one, named)) {
            None => Ok(()),
            Some(holder) => Err(refusals::used(holder, consent, named)),
        }
    }

    /// Disables persistence mode for these GPUs. Stops the persistence daemon only if it still has one of them open,
    /// because that affects all GPUs of the host.
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
            failed |= self.journal.perform(operation, claim, &off).is_err();
        }
        if !failed && !self.hardware.holders(taken)?.iter().any(is_persistence_daemon) {
            return Ok(());
        }
        let unit = PERSISTENCE_UNIT.to_owned();
        let stop = Step::SetUnit { address: first, unit, from: true, to: false };
        let stopped = self.journal.perform(operation, claim, &stop);
        // Hosts without systemd or D-Bus: it was started by hand, and only a person can stop it.
        match persistent.iter().find_map(|holder| holder.pid) {
            Some(pid) => self.still_used(taken, pid, stopped),
            None => Ok(stopped?),
        }
    }

    /// The result of ending a process's use. If that failed and the process is still there, the refusal names it: what
    /// helps is that a person ends it.
    pub(super) fn still_used(
        &self,
        taken: &[Address],
        pid: u32,
        ended: Result<(), StepError>,
    ) -> Result<(), Refusal> {
        let Err(StepError::Host(error @ (HostError::File { .. } | HostError::Check { .. }))) =
            ended
        else {
            return Ok(ended?);
        };
        let left = self.hardware.holders(taken)?;
        match left.iter().find(|holder| holder.pid == Some(pid)) {
            Some(holder) => Err(refusals::not_ended(holder, &error)),
            None => Err(refusals::step_failed(&error)),
        }
    }
}
