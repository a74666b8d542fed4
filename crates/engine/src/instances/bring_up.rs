//! From reserved devices to a running machine, and back: what create and start have in common.

use std::time::Duration;

use jiff::Timestamp;
use model::{Address, ClaimState, Code, MachineHandle, Refusal, plan};

use super::not_ended;
use crate::choose::{changed, taken};
use crate::core::Core;
use crate::refusals;
use crate::store::{Durability, OpenOperation, StoredClaim, StoredImage, StoredInstance};
use crate::undo::Restored;
use crate::{Action, InstanceState, MachineStep};

impl Core {
    /// Prepares the devices and starts the machine.
    pub(super) fn bring_up(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
    ) -> Result<MachineHandle, Refusal> {
        let (image, mut claims) = self.parts(row)?;
        for claim in &mut claims {
            self.prepare(operation, claim, row.instance.uid)?;
        }
        let spec = self.spec(row, &image, &claims);
        let launcher = self.launcher(&row.instance.hypervisor)?;
        self.machine(operation, MachineStep::CreateFiles, || launcher.create_files(&spec))?;
        Ok(self.machine(operation, MachineStep::Launch, || launcher.launch(&spec))?)
    }

    /// Records that the machine runs, and watches it.
    pub(super) fn is_up(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
        handle: MachineHandle,
    ) -> Result<(), Refusal> {
        row.instance.state = InstanceState::Running;
        row.instance.state_error = None;
        row.instance.pid = Some(handle.pid);
        row.instance.exit_code = None;
        row.instance.started_at = Some(Timestamp::now());
        row.instance.stopped_at = None;
        row.machine = Some(handle.clone());
        self.close_operation(operation, "done", None, |tx| row.update(tx))?;
        self.watch(&row.instance.hypervisor, handle)
    }

    fn parts(&self, row: &StoredInstance) -> Result<(StoredImage, Vec<StoredClaim>), Refusal> {
        let id = row.instance.id;
        let (image, claims) = self.store.read(|from| {
            let image = StoredImage::by_name(from, &row.instance.image)?;
            Ok((image, StoredClaim::of_instance(from, id)?))
        })?;
        let image = image
            .ok_or_else(|| refusals::no_such("image", &row.instance.image, "handover image ls"))?;
        Ok((image, claims))
    }

    /// Brings a claim's assembly onto vfio.
    fn prepare(
        &self,
        operation: &OpenOperation,
        claim: &mut StoredClaim,
        uid: u32,
    ) -> Result<(), Refusal> {
        let unreadable = |error| refusals::unreadable(&error);
        let inventory = self.inventory()?;
        if claim.claim.state == ClaimState::Reserved {
            self.expect_same_assembly(&inventory, &claim.claim)?;
            // The devices before this one took their time.
            self.expect_no_holder(&taken(&claim.claim))?;
        }
        let members = &claim.claim.members;
        let addresses: Vec<Address> = members.iter().map(|member| member.address).collect();
        let found = self.host.as_found(&addresses).map_err(unreadable)?;
        for (member, found) in members.iter().zip(&found) {
            if !member.fingerprint.matches(&found.fingerprint) {
                return Err(changed(member.address));
            }
        }
        let groups: Vec<u32> = addresses
            .iter()
            .filter_map(|address| inventory.function(*address)?.iommu_group)
            .collect();
        let nodes = self.host.group_nodes(&groups).map_err(unreadable)?;
        for step in plan::prepare(&inventory, members, &found, &nodes, uid) {
            self.make(operation, claim.claim.id, &step)?;
        }
        if claim.claim.state == ClaimState::Reserved {
            for (member, found) in claim.claim.members.iter_mut().zip(found) {
                member.as_found = Some(found);
            }
        }
        claim.claim.state = ClaimState::Prepared;
        claim.claim.boot_id = Some(self.boot.clone());
        self.store.write(Durability::Power, |tx| claim.update(tx))
    }

    /// Ends what an operation may have started, and gives back what it took; all of the claims' steps, or only those
    /// of this operation. `Err` where the machine cannot be proven gone: then nothing was touched.
    pub(super) fn bring_down(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
        of: Option<i64>,
        patience: Duration,
    ) -> Result<Restored, Refusal> {
        let made = self.store.read(|from| operation.machine_steps(from))?;
        let launch = Action::Machine(MachineStep::Launch);
        if made.iter().any(|recorded| recorded.action == launch) {
            self.end_machine(operation, row).map_err(not_ended)?;
        }
        self.restore_claims(operation, row, of, patience)
    }

    /// Gives back the devices of an instance.
    pub(super) fn restore_claims(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
        of: Option<i64>,
        patience: Duration,
    ) -> Result<Restored, Refusal> {
        let id = row.instance.id;
        let claims = self.store.read(|from| StoredClaim::of_instance(from, id))?;
        let mut outcome = Restored::default();
        for mut claim in claims.into_iter().rev() {
            outcome.and(self.restore_claim(operation, &mut claim, of, patience)?);
        }
        Ok(outcome)
    }
}

/// What is said of an operation that was cut off by the daemon's death.
pub(super) fn interrupted(kind: &str) -> Refusal {
    Refusal::new(
        Code::StepFailed,
        format!("the daemon ended during {kind}; what had been done was undone"),
        "try again",
    )
}
