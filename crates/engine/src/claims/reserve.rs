//! Reserving: choosing devices and recording the claim, so that no other owner can claim them. The host is not changed.

use model::choose::Chosen;
use model::plan::Plan;
use model::{Claim, ClaimState, Code, Observed, Refusal};
use uuid::Uuid;

use super::choose::{HostState, Own, Terms, expect_few};
use super::{Access, Claims, display};
use crate::lock::lock;
use crate::refusals::with_failed_undo;
use crate::store::{Durability, OpenOperation, StoredClaim};
use crate::{ClaimRequest, ClaimStep, Claimed, OperationKind, Outcome};

/// How often to choose again after another request took a chosen device.
const MAX_TRIES: u32 = 100;

/// Result of choosing and recording a claim.
enum Reserved {
    /// A new claim, with the operation that prepares it if the request asks for that.
    New(Box<StoredClaim>, HostState, Option<OpenOperation>),
    /// A concurrent request with the same owner and wants created it.
    Existing(Box<StoredClaim>),
}

impl Claims {
    /// Claims devices and partitions: all that is requested, or none. Idempotent per owner and request.
    ///
    /// # Errors
    /// Why the request cannot be granted. Changes are rolled back; the error says if that failed.
    pub fn claim(&self, request: &ClaimRequest) -> Result<Claimed, Refusal> {
        check(request)?;
        if let Some(mine) = self.same_claim_recorded(request)? {
            return self.claim_again(mine, request);
        }
        let id = Uuid::new_v4();
        let _turn = self.journal.turns.take(id);
        let (mut claim, state, operation) = match self.choose_and_record(id, request)? {
            Reserved::New(claim, state, operation) => (*claim, state, operation),
            Reserved::Existing(mine) => return self.claim_again(*mine, request),
        };
        let Some(operation) = operation else {
            return Ok(Claimed { claim: claim.claim, new: true });
        };
        let prepared = self
            .prepare_parts(&operation, &mut claim, &Access::of(request), Some(state))
            .and_then(|()| {
                self.journal.close_operation(&operation, Outcome::Done, None, |tx| claim.update(tx))
            });
        match prepared {
            Ok(()) => Ok(Claimed { claim: claim.claim, new: true }),
            Err(cause) => match self.undo_claim(&operation, &cause, self.journal.worker_wait()) {
                Ok(_) => Err(cause),
                Err(undo) => Err(with_failed_undo(&cause, &undo)),
            },
        }
    }

    /// Chooses devices and records the claim. Requests choose concurrently: if another one took a chosen device first,
    /// this one chooses again, until nothing suitable is left.
    fn choose_and_record(&self, id: Uuid, request: &ClaimRequest) -> Result<Reserved, Refusal> {
        let mut tries = 0;
        loop {
            let (mut claim, state) = self.chosen_claim(id, request)?;
            let _allocation = lock(&self.journal.allocation);
            if let Some(mine) = self.same_claim(request)? {
                return Ok(Reserved::Existing(Box::new(mine)));
            }
            tries += 1;
            let available = self
                .expect_available(&claim.claim, &[])
                .and_then(|()| self.expect_room(&state.inventory, [&claim.claim]));
            match available {
                Ok(()) => {
                    let operation = self.record(&mut claim, request)?;
                    self.start_lease(&claim.claim, request.lease);
                    return Ok(Reserved::New(Box::new(claim), state, operation));
                }
                Err(refusal) if tries == MAX_TRIES || refusal.code == Code::StateUnusable => {
                    return Err(refusal);
                }
                Err(_) => {}
            }
        }
    }

    /// Returns the existing claim, prepared if the request asks for that.
    fn claim_again(&self, mine: StoredClaim, request: &ClaimRequest) -> Result<Claimed, Refusal> {
        if request.step == ClaimStep::Reserve {
            return Ok(Claimed { claim: mine.claim, new: false });
        }
        let id = mine.claim.id.to_string();
        let claim = self.prepare(&id, &Access::of(request))?;
        Ok(Claimed { claim, new: false })
    }

    /// What [`claim`](Self::claim) would choose, and the steps it would perform. Records and changes nothing.
    ///
    /// # Errors
    /// Why the request cannot be granted.
    pub fn dry_run(&self, request: &ClaimRequest) -> Result<(Claim, Plan), Refusal> {
        check(request)?;
        let (claim, inventory) = match self.same_claim(request)? {
            Some(mine) => {
                let inventory = self.hardware.sketch()?;
                if mine.claim.state == ClaimState::Reserved {
                    self.marks.expect_not_marked(&mine.claim)?;
                    self.expect_types_offered(&inventory, &mine.claim)?;
                }
                (mine, inventory)
            }
            None => {
                let (claim, state) = self.chosen_claim(Uuid::new_v4(), request)?;
                (claim, state.inventory)
            }
        };
        let access = Access::of(request);
        let mut plan = self.plan(&inventory, &claim.claim, &access)?.0;
        if access.consent.takes_display() && claim.claim.state == ClaimState::Reserved {
            let cards = display::cards(&inventory, &claim.claim);
            plan.first.splice(0..0, self.display_steps(&cards)?);
        }
        plan.last.extend(self.set_step([&claim.claim])?);
        // A loaded module stays as it is; what cannot be observed is listed.
        plan.first.retain(|step| self.hardware.host.observe(step) != Ok(Observed::After));
        Ok((claim.claim, plan))
    }

    /// Refuses a claim `--at-boot` that the host could not apply at boot.
    pub(super) fn expect_boot_list(&self, at_boot: bool) -> Result<(), Refusal> {
        let applies = !at_boot || self.hardware.host.applies_boot_list();
        if applies { Ok(()) } else { Err(no_boot_list()) }
    }

    fn chosen_claim(
        &self,
        id: Uuid,
        request: &ClaimRequest,
    ) -> Result<(StoredClaim, HostState), Refusal> {
        self.expect_boot_list(request.at_boot)?;
        let consent = request.consent();
        let (mut chosen, state) =
            self.choose(id, &request.wants, request.options(), consent, Own::default())?;
        if request.define {
            define(&mut chosen)?;
        }
        let terms = Terms {
            owner: request.owner.clone(),
            reason: request.reason.clone(),
            expires: request.lease.map(|lease| self.expiry(lease)),
            wants: request.wants.clone(),
            alone: request.alone,
        };
        let mut claim = self.claim_of(id, terms, chosen, &state.inventory)?;
        display::expect_card(&state.inventory, &claim.claim, consent)?;
        if request.at_boot {
            put_on_boot_list(&mut claim)?;
        }
        Ok((claim, state))
    }

    /// Records a claim. If it is to be prepared too, the commit that ends its preparation acknowledges it.
    fn record(
        &self,
        claim: &mut StoredClaim,
        request: &ClaimRequest,
    ) -> Result<Option<OpenOperation>, Refusal> {
        let id = claim.claim.id;
        let others = self.store.read(|from| StoredClaim::of_owner(from, &request.owner))?;
        claim.position = others.iter().map(|other| other.position + 1).max().unwrap_or(0);
        if request.step == ClaimStep::Prepare {
            let open = |tx: &rusqlite::Transaction<'_>| claim.insert(tx);
            return self
                .journal
                .open_operation_as(Durability::Process, OperationKind::Claim, id, open)
                .map(Some);
        }
        self.store.write(Durability::Power, |tx| claim.insert(tx))?;
        self.journal.notify();
        Ok(None)
    }

    /// [`same_claim`](Self::same_claim), after an operation on it that was left open is ended: a claim that was rolled
    /// back is then gone.
    fn same_claim_recorded(&self, request: &ClaimRequest) -> Result<Option<StoredClaim>, Refusal> {
        match self.same_claim(request)? {
            Some(mine) if self.journal.is_left_open(mine.claim.id) => {
                drop(self.journal.turn_of(mine.claim.id)?);
                self.same_claim(request)
            }
            mine => Ok(mine),
        }
    }

    /// The owner's claim with the same wants and options.
    fn same_claim(&self, request: &ClaimRequest) -> Result<Option<StoredClaim>, Refusal> {
        let mine = self.store.read(|from| StoredClaim::of_owner(from, &request.owner))?;
        Ok(mine.into_iter().find(|claim| is_same(claim, request)))
    }
}

/// Whether a claim has the request's wants and options.
fn is_same(claim: &StoredClaim, request: &ClaimRequest) -> bool {
    claim.wants == request.wants
        && claim.alone == request.alone
        && claim.claim.is_defined() == request.define
        && claim.claim.is_at_boot() == request.at_boot
}

/// Refuses `--at-boot` on a host without a tool that builds the initial ramdisk.
fn no_boot_list() -> Refusal {
    Refusal::new(Code::InvalidState, model::boot_list::NO_TOOL, model::boot_list::INSTALL_TOOL)
}

/// Marks the chosen mediated devices to be defined for mdevctl.
fn define(chosen: &mut [Chosen]) -> Result<(), Refusal> {
    let mut any = false;
    for one in chosen {
        any |= one.define();
    }
    if any {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidState,
        "the request selects no mediated device, and mdevctl defines mediated devices only",
        "claim it without a definition; `handover show ADDRESS` shows how a GPU creates its vGPUs",
    ))
}

/// Puts the whole devices of a claim on the boot list. Partitions do not exist yet when a host boots.
fn put_on_boot_list(claim: &mut StoredClaim) -> Result<(), Refusal> {
    let whole = claim.claim.parts.iter_mut().filter(|part| part.partition.is_none());
    whole.for_each(|part| part.at_boot = true);
    if claim.claim.is_at_boot() {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidState,
        "the request selects no whole device, and partitions do not exist yet when the host boots",
        "claim it without --at-boot; `handover sriov set` creates virtual functions at each boot without binding host drivers to them",
    ))
}

fn check(request: &ClaimRequest) -> Result<(), Refusal> {
    expect_few(&request.wants)?;
    if request.owner.kind == model::Owner::INSTANCE || request.owner.kind == "undo" {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("the owner kind {:?} is for Handover's own use", request.owner.kind),
            "choose another kind, such as person, pod or job",
        ));
    }
    if request.reason.as_ref().is_some_and(|reason| reason.chars().count() > 1000) {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "the reason is longer than 1000 characters",
            "shorten it",
        ));
    }
    Ok(())
}
