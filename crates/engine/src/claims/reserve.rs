//! Reserving: from here on nobody else can have what was chosen. The host is not touched.

use model::choose::Chosen;
use model::plan::Plan;
use model::{Claim, ClaimState, Code, Refusal};
use uuid::Uuid;

use super::choose::{Asked, Seen};
use super::{Access, Claims};
use crate::lock::lock;
use crate::refusals::with_failed_undo;
use crate::store::{Durability, OpenOperation, StoredClaim};
use crate::{ClaimRequest, ClaimStep, Claimed, OperationKind, Outcome};

/// More than this is a mistake, and would take long to choose.
const MOST: u64 = 1024;

/// Each further try means that somebody else got something.
const TRIES: u32 = 100;

/// What became of a request for a claim.
enum Reserved {
    /// A new claim, with the operation that prepares it where that was asked for.
    Now(Box<StoredClaim>, Seen, Option<OpenOperation>),
    /// The same request of the same owner made it meanwhile.
    Before(Box<StoredClaim>),
}

impl Claims {
    /// Claims devices and parts of devices: all that is asked for, or nothing. Idempotent per owner and request.
    ///
    /// # Errors
    /// Why it cannot be had. Changes are rolled back then, and the error says so where that failed.
    pub fn claim(&self, request: &ClaimRequest) -> Result<Claimed, Refusal> {
        check(request)?;
        if let Some(mine) = self.same_claim_recorded(request)? {
            return self.claim_again(mine, request);
        }
        let id = Uuid::new_v4();
        let _turn = self.journal.turns.take(id);
        let (mut claim, seen, operation) = match self.choose_and_record(id, request)? {
            Reserved::Now(claim, seen, operation) => (*claim, seen, operation),
            Reserved::Before(mine) => return self.claim_again(*mine, request),
        };
        let Some(operation) = operation else {
            return Ok(Claimed { claim: claim.claim, new: true });
        };
        let prepared = self
            .prepare_parts(&operation, &mut claim, &Access::of(request), Some(seen))
            .and_then(|()| {
                self.journal.close_operation(&operation, Outcome::Done, None, |tx| claim.update(tx))
            });
        match prepared {
            Ok(()) => Ok(Claimed { claim: claim.claim, new: true }),
            Err(cause) => match self.undo_claim(&operation, &cause, self.journal.moment()) {
                Ok(_) => Err(cause),
                Err(undo) => Err(with_failed_undo(&cause, &undo)),
            },
        }
    }

    /// Chooses, and records what was chosen. Choosing takes a while, and others choose at the same time: who finds that another
    /// one was faster chooses again, until nothing is left that would do.
    fn choose_and_record(&self, id: Uuid, request: &ClaimRequest) -> Result<Reserved, Refusal> {
        let mut tries = 0;
        loop {
            let (mut claim, seen) = self.chosen_claim(id, request)?;
            let _allocation = lock(&self.journal.allocation);
            if let Some(mine) = self.same_claim(request)? {
                return Ok(Reserved::Before(Box::new(mine)));
            }
            tries += 1;
            match self.expect_available(&claim.claim) {
                Ok(()) => {
                    let operation = self.record(&mut claim, request)?;
                    return Ok(Reserved::Now(Box::new(claim), seen, operation));
                }
                Err(refusal) if tries == TRIES || refusal.code == Code::StateUnusable => {
                    return Err(refusal);
                }
                Err(_) => {}
            }
        }
    }

    /// The claim is there already: it is brought as far as was asked for now.
    fn claim_again(&self, mine: StoredClaim, request: &ClaimRequest) -> Result<Claimed, Refusal> {
        if request.step == ClaimStep::Reserve {
            return Ok(Claimed { claim: mine.claim, new: false });
        }
        let id = mine.claim.id.to_string();
        let claim = self.prepare(&id, &Access::of(request))?;
        Ok(Claimed { claim, new: false })
    }

    /// What a request would get, and the steps that would be made for it. Nothing is recorded or changed.
    ///
    /// # Errors
    /// Why it could not be had.
    pub fn dry_run(&self, request: &ClaimRequest) -> Result<(Claim, Plan), Refusal> {
        check(request)?;
        let (claim, inventory) = match self.same_claim(request)? {
            Some(mine) => {
                if mine.claim.state == ClaimState::Reserved {
                    self.marks.expect_not_marked(&mine.claim)?;
                }
                (mine, self.hardware.sketch()?)
            }
            None => {
                let (claim, seen) = self.chosen_claim(Uuid::new_v4(), request)?;
                (claim, seen.inventory)
            }
        };
        let access = Access::of(request);
        let plan = self.plan(&inventory, &claim.claim, &access)?.0;
        Ok((claim.claim, plan))
    }

    fn chosen_claim(
        &self,
        id: Uuid,
        request: &ClaimRequest,
    ) -> Result<(StoredClaim, Seen), Refusal> {
        let (mut chosen, seen) = self.choose(id, &request.wants, request.alone, request.evict)?;
        if request.define {
            define(&mut chosen)?;
        }
        let asked = Asked {
            owner: request.owner.clone(),
            reason: request.reason.clone(),
            expires: request.lease.map(|lease| self.begin_lease(id, lease)),
            wants: request.wants.clone(),
            alone: request.alone,
        };
        let mut claim = self.claim_of(id, asked, chosen, &seen.inventory)?;
        if request.at_boot {
            reserve_at_boot(&mut claim)?;
        }
        Ok((claim, seen))
    }

    /// Commits a claim. One that is to be prepared too is acknowledged by the commit that ends its preparation.
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

    /// [`same_claim`](Self::same_claim), after what an operation of it left unrecorded is recorded: one that was undone is gone then.
    fn same_claim_recorded(&self, request: &ClaimRequest) -> Result<Option<StoredClaim>, Refusal> {
        match self.same_claim(request)? {
            Some(mine) if self.journal.is_left_open(mine.claim.id) => {
                drop(self.journal.turn_of(mine.claim.id)?);
                self.same_claim(request)
            }
            mine => Ok(mine),
        }
    }

    /// The owner's claim that was made with the same words.
    fn same_claim(&self, request: &ClaimRequest) -> Result<Option<StoredClaim>, Refusal> {
        let mine = self.store.read(|from| StoredClaim::of_owner(from, &request.owner))?;
        Ok(mine.into_iter().find(|claim| is_same(claim, request)))
    }
}

/// Whether it was made with the same words.
fn is_same(claim: &StoredClaim, request: &ClaimRequest) -> bool {
    claim.wants == request.wants
        && claim.alone == request.alone
        && claim.claim.is_defined() == request.define
        && claim.claim.is_at_boot() == request.at_boot
}

/// Has the mediated devices among what was chosen written down for mdevctl.
fn define(chosen: &mut [Chosen]) -> Result<(), Refusal> {
    let mut any = false;
    for one in chosen {
        any |= one.define();
    }
    if any {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        "nothing that would be claimed is a mediated device, and mdevctl defines no others",
        "claim it without asking for a definition; `handover show ADDRESS` tells how a GPU makes its vGPUs",
    ))
}

/// Has the devices among what was chosen reserved at each boot. Parts of devices are not there yet when a host starts.
fn reserve_at_boot(claim: &mut StoredClaim) -> Result<(), Refusal> {
    let whole = claim.claim.parts.iter_mut().filter(|part| part.partition.is_none());
    whole.for_each(|part| part.at_boot = true);
    if claim.claim.is_at_boot() {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        "nothing that would be claimed is a device as a whole, and parts of devices are not there yet when a host starts",
        "claim it without --at-boot; `handover sriov set` makes virtual functions at each boot without giving them to the host's drivers",
    ))
}

fn check(request: &ClaimRequest) -> Result<(), Refusal> {
    let many: u64 = request.wants.iter().map(|want| u64::from(want.count)).sum();
    if many > MOST {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("{many} things are asked for at once"),
            format!("ask for at most {MOST}"),
        ));
    }
    if request.owner.kind == model::Owner::INSTANCE || request.owner.kind == "undo" {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("an owner of kind {:?} is one of Handover's own", request.owner.kind),
            "choose another kind, such as person, pod or job",
        ));
    }
    if request.reason.as_ref().is_some_and(|reason| reason.len() > 1000) {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "the reason has more than 1000 bytes",
            "say it in fewer words",
        ));
    }
    Ok(())
}
