//! Those who use a device and can be asked to let go: a process, where the owner of the claim says so, and NVIDIA's
//! persistence daemon, which holds GPUs for nobody.

use std::collections::BTreeSet;

use model::{Address, Holder, Refusal, Step};
use uuid::Uuid;

use crate::core::Core;
use crate::refusals;
use crate::store::OpenOperation;

/// The program that keeps NVIDIA GPUs initialised, and its unit.
const PERSISTENCE_DAEMON: &str = "nvidia-persistenced";
const PERSISTENCE_UNIT: &str = "nvidia-persistenced.service";

/// A process's name is cut to 15 bytes in `/proc/PID/comm` (`TASK_COMM_LEN`).
const COMM_LENGTH: usize = 15;

/// Whether a user of a device would be made to let go.
pub fn would_go(holder: &Holder, evict: bool) -> bool {
    is_persistence_daemon(holder) || (evict && can_be_asked(holder))
}

fn is_persistence_daemon(holder: &Holder) -> bool {
    let cut = PERSISTENCE_DAEMON.get(..COMM_LENGTH);
    let program = holder.program.as_deref();
    program.is_some() && (program == Some(PERSISTENCE_DAEMON) || program == cut)
}

/// Only a process can be asked; a mount, a route or an array is ended by a person. A machine's VMM is not asked: that would
/// be somebody's machine.
fn can_be_asked(holder: &Holder) -> bool {
    holder.pid.is_some() && holder.started.is_some() && !holder.by.starts_with("/dev/vfio/")
}

impl Core {
    /// Makes those `holders` let go who can be asked, and refuses where others use one of the functions.
    pub fn drive_out(
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
            self.make(operation, claim, &Step::Evict { address, pid, started, user })?;
        }
        self.end_persistence(operation, claim, taken, &persistent)?;
        // Who came meanwhile, or has another process open it for him.
        match self.holders(taken)?.first() {
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
            failed |= self.make(operation, claim, &off).is_err();
        }
        if !failed && !self.holders(taken)?.iter().any(is_persistence_daemon) {
            return Ok(());
        }
        let unit = PERSISTENCE_UNIT.to_owned();
        let stop = Step::SetUnit { address: first, unit, from: true, to: false };
        Ok(self.make(operation, claim, &stop)?)
    }
}
