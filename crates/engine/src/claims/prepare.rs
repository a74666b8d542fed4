//! Preparing a claim: performing the steps of its plan, in parallel where possible, so that a machine can use its
//! devices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use model::plan::{Given, Plan};
use model::{
    Address, AsFound, Claim, ClaimState, Code, HostError, Inventory, Mechanism, Part, Refusal,
    Step, VfSettings, plan,
};

use super::Claims;
use super::choose::HostState;
use super::{differences, display};
use crate::consent::{Consent, Named};
use crate::owners;
use crate::refusals::{self, with_failed_undo};
use crate::store::{Durability, Health, OpenOperation, StoredClaim};
use crate::{ClaimRequest, OperationKind, Outcome};

/// Options of preparing a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// User id that may open the claim's device nodes.
    pub uid: u32,
    /// Whether that user is let open the nodes of groups later, if at all.
    pub defers_groups: bool,
    /// Whether that user may also open the functions' own nodes, for iommufd.
    pub device_nodes: bool,
    /// Whether to reset functions after they are bound to vfio.
    pub reset: bool,
    /// Whether to ask processes that use a function to exit, and to take functions that the host's network uses.
    pub consent: Consent,
}

impl Access {
    /// The options in a request.
    pub(crate) fn of(request: &ClaimRequest) -> Self {
        let uid = request.uid.unwrap_or(0);
        Self {
            uid,
            defers_groups: false,
            device_nodes: uid != 0,
            reset: request.reset,
            consent: request.consent(),
        }
    }

    /// The options for an instance: no access to the functions' own nodes, and no reset, because VFIO resets each device
    /// when it is opened.
    pub const fn machine(uid: u32, defers_groups: bool, take_display: bool) -> Self {
        let consent = Consent::NONE.with_display(take_display);
        Self { uid, defers_groups, device_nodes: false, reset: false, consent }
    }
}

impl Claims {
    /// Prepares a reserved claim; a prepared one is not changed.
    ///
    /// # Errors
    /// As [`claim`](Self::claim); the claim then stays reserved.
    pub fn prepare(&self, key: &str, access: &Access) -> Result<Claim, Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        let _turn = self.journal.turn_of(id)?;
        let mut claim = self.stored_claim(&id.to_string())?;
        self.expect_not_an_instances(&claim)?;
        match claim.claim.state {
            ClaimState::Prepared => {
                self.expect_as_prepared(&claim.claim)?;
                return prepared_for(claim, access.uid).map(|stored| stored.claim);
            }
            ClaimState::Wedged => {
                let reason = format!("the devices of claim {id} could not be restored earlier");
                let health = self.store.read(Health::all)?;
                return Err(refusals::not_restored_earlier(&claim.claim, &health, &reason));
            }
            ClaimState::Reserved => {}
        }
        let operation = self.begin(OperationKind::Prepare, id)?;
        let prepared = self.prepare_parts(&operation, &mut claim, access, None).and_then(|()| {
            self.journal.close_operation(&operation, Outcome::Done, None, |tx| claim.update(tx))
        });
        match prepared {
            Ok(()) => Ok(claim.claim),
            Err(cause) => match self.undo_prepare(&operation, &cause, self.journal.worker_wait()) {
                Ok(_) => Err(cause),
                Err(undo) => Err(with_failed_undo(&cause, &undo)),
            },
        }
    }

    /// Refuses a prepared claim that another tool, or the restore of a backup, has left without its devices.
    fn expect_as_prepared(&self, claim: &Claim) -> Result<(), Refusal> {
        self.marks.expect_not_marked(claim)?;
        let pinned = claim.parts.iter().filter_map(Part::pins);
        let functions: Vec<Address> = claim.taken().chain(pinned).collect();
        let inventory = self.hardware.functions(&functions)?;
        let owner = owners::described(&self.store, &claim.owner);
        let mut found = claim.parts.iter().flat_map(|part| differences(&inventory, &owner, part));
        found.next().map_or(Ok(()), |difference| {
            Err(Refusal::new(
                Code::InvalidState,
                format!("claim {} is prepared, but {difference}", claim.id),
                format!("run `handover unprepare {0}`, then `handover prepare {0}`", claim.id),
            ))
        })
    }

    /// Reads the host's state and checks reserved devices again: marks, users, IOMMU groups and drivers can have
    /// changed.
    fn recheck(&self, claim: &StoredClaim) -> Result<HostState, Refusal> {
        let inventory = self.hardware.sketch()?;
        if claim.claim.state != ClaimState::Reserved {
            return Ok(HostState { inventory, holders: Vec::new() });
        }
        self.expect_same_assembly(&inventory, &claim.claim)?;
        self.expect_types_offered(&inventory, &claim.claim)?;
        self.expect_boot_list(claim.claim.is_at_boot())?;
        self.marks.expect_not_marked(&claim.claim)?;
        // A drive can have come behind a controller since it was claimed.
        let mut lost: BTreeSet<Address> = claim.claim.lost().collect();
        let behind = inventory.functions.values().filter(|function| {
            function.behind.is_some_and(|controller| claim.claim.holds(controller))
        });
        lost.extend(behind.map(|function| function.address));
        let lost: Vec<Address> = lost.into_iter().collect();
        Ok(HostState { inventory, holders: self.hardware.holders(&lost)? })
    }

    /// Performs the steps of a claim's plan and records the claim as `prepared`. `state` is the host's state that the
    /// claim was just chosen by; `None` reads it again.
    pub(crate) fn prepare_parts(
        &self,
        operation: &OpenOperation,
        claim: &mut StoredClaim,
        access: &Access,
        state: Option<HostState>,
    ) -> Result<(), Refusal> {
        let id = claim.claim.id;
        let taken: Vec<Address> = claim.claim.taken().collect();
        self.expect_healthy(&taken)?;
        let is_new = state.is_some();
        let HostState { inventory, holders } = match state {
            Some(state) => state,
            None => self.recheck(claim)?,
        };
        if claim.claim.state == ClaimState::Reserved {
            let parts = claim.claim.parts.iter();
            let named = Named::of(&claim.wants, parts.map(Part::lost));
            let named = if is_new { named } else { named.in_claim(self.key_of(&claim.claim)) };
            let lost: Vec<Address> = claim.claim.lost().collect();
            let takes = access.consent.takes_display();
            let cards = if takes { display::cards(&inventory, &claim.claim) } else { Vec::new() };
            let holders = match cards.as_slice() {
                [] => holders,
                cards => {
                    // Before any session is ended.
                    let other = holders.iter().find(|one| !access.consent.covers(one, &named));
                    if let Some(other) = other {
                        return Err(refusals::used(other, access.consent, &named));
                    }
                    self.end_sessions(operation, id, cards, &lost)?
                }
            };
            self.evict_holders(operation, id, &lost, &holders, access.consent, &named)?;
            self.let_go_of_display(operation, id, &cards)?;
        }
        let (plan, found) = self.plan(&inventory, &claim.claim, access)?;
        self.perform_plan(operation, claim, &plan)?;
        if claim.claim.owner.kind != model::Owner::INSTANCE {
            self.activate_set(operation, [&claim.claim])?;
        }
        if claim.claim.state == ClaimState::Reserved {
            for member in claim.claim.parts.iter_mut().flat_map(|part| &mut part.members) {
                member.as_found =
                    found.iter().find(|found| found.address == member.address).cloned();
            }
        }
        claim.claim.state = ClaimState::Prepared;
        claim.claim.boot_id = Some(self.journal.boot.clone());
        claim.uid = Some(access.uid);
        self.journal.write_for(operation, Durability::Process, |tx| claim.update(tx))
    }

    /// Lets the user of a prepared claim open the nodes of its groups. They exist now: the functions are bound.
    pub(crate) fn grant_groups(
        &self,
        operation: &OpenOperation,
        claim: &Claim,
        uid: u32,
    ) -> Result<(), Refusal> {
        let taken: Vec<Address> = claim.taken().collect();
        let inventory = self.hardware.functions(&taken)?;
        let groups: Vec<u32> =
            inventory.functions.values().filter_map(|function| function.iommu_group).collect();
        let nodes = self.hardware.host.group_nodes(&groups);
        let nodes = nodes.map_err(|error| refusals::unreadable(&error))?;
        for step in claim.parts.iter().flat_map(|part| plan::grants(&inventory, &nodes, uid, part))
        {
            self.journal.perform(operation, claim.id, &step)?;
        }
        Ok(())
    }

    /// How a person names a claim: by its owner, or by its id if the owner has several.
    fn key_of(&self, claim: &Claim) -> String {
        let all = self.store.read(|from| StoredClaim::of_owner(from, &claim.owner));
        if all.is_ok_and(|all| all.len() == 1) {
            claim.owner.to_string()
        } else {
            claim.id.to_string()
        }
    }

    /// The plan that prepares a claim, and the current state of its functions.
    pub(crate) fn plan(
        &self,
        inventory: &Inventory,
        claim: &Claim,
        access: &Access,
    ) -> Result<(Plan, Vec<AsFound>), Refusal> {
        let unreadable = |error: HostError| refusals::unreadable(&error);
        let members: Vec<Address> = claim.members().map(|member| member.address).collect();
        let found = self.hardware.host.as_found(&members).map_err(unreadable)?;
        for (member, found) in claim.members().zip(&found) {
            if !member.fingerprint.matches(&found.fingerprint) {
                return Err(refusals::fingerprint_changed(member.address));
            }
        }
        let groups: Vec<u32> = members
            .iter()
            .filter_map(|address| inventory.function(*address)?.iommu_group)
            .collect();
        let nodes = self.hardware.host.group_nodes(&groups).map_err(unreadable)?;
        let vf_settings = self.vf_settings(claim)?;
        let defines = claim.is_defined();
        let definitions = if defines { self.hardware.host.mdev_definitions() } else { Vec::new() };
        let mark = self.marks.mark_of(claim.id);
        let given = Given {
            inventory,
            found: &found,
            nodes: &nodes,
            vf_settings: &vf_settings,
            definitions: &definitions,
            mark: &mark,
            uid: access.uid,
            group_nodes: !access.defers_groups,
            device_nodes: access.device_nodes,
            reset: access.reset,
        };
        Ok((plan::prepare(&given, &claim.parts), found))
    }

    /// Current settings of the claim's virtual functions that get new ones.
    fn vf_settings(&self, claim: &Claim) -> Result<BTreeMap<Address, VfSettings>, Refusal> {
        let mut found = BTreeMap::new();
        for part in &claim.parts {
            let Some(partition) = &part.partition else { continue };
            let Mechanism::Vf { index, settings } = &partition.how else { continue };
            if !settings.is_empty() {
                let current = self.hardware.host.vf_settings(partition.parent, *index);
                let current = current.map_err(|error| {
                    refusals::no_vf_settings(part.head, partition.parent, &error)
                })?;
                found.insert(part.head, current);
            }
        }
        Ok(found)
    }

    /// Performs the steps that come first, then the parts in parallel (each has its own devices), then the last steps.
    fn perform_plan(
        &self,
        operation: &OpenOperation,
        claim: &StoredClaim,
        plan: &Plan,
    ) -> Result<(), Refusal> {
        let id = claim.claim.id;
        let go_on = AtomicBool::new(true);
        let perform = |steps: &[Step]| -> Result<(), Refusal> {
            for step in steps {
                if self.journal.turns.is_cancelled(id) {
                    return Err(cancelled());
                }
                if !go_on.load(Ordering::Relaxed) {
                    return Ok(());
                }
                self.journal
                    .perform(operation, id, step)
                    .inspect_err(|_| go_on.store(false, Ordering::Relaxed))?;
            }
            Ok(())
        };
        perform(&plan.first)?;
        if let [only] = plan.parts.as_slice() {
            perform(only)?;
            return perform(&plan.last);
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> Result<(), Refusal> {
            while let Some(steps) = plan.parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                perform(steps)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads = plan.parts.len().min(self.at_once());
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut result = Ok(());
            for thread in threads {
                match thread.join() {
                    Ok(done) => result = result.and(done),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            result
        })?;
        perform(&plan.last)
    }
}

/// The claim, if it is prepared for this user.
fn prepared_for(claim: StoredClaim, uid: u32) -> Result<StoredClaim, Refusal> {
    match claim.uid {
        Some(other) if other != uid => Err(Refusal::new(
            Code::Conflict,
            format!("claim {} is prepared for uid {other}, not for uid {uid}", claim.claim.id),
            format!("run `handover unprepare {}`, then prepare it again", claim.claim.id),
        )),
        _ => Ok(claim),
    }
}

fn cancelled() -> Refusal {
    Refusal::new(
        Code::StepFailed,
        "cancelled by a release, or because Handover is stopping; changes rolled back",
        "retry if you still need it",
    )
}
