//! Claims: reserved, prepared, unprepared, released; each verb an operation in the journal, and the same for its owner
//! however often it is said.

mod available;
pub(crate) mod choose;
mod evict;
mod lease;
mod prepare;
mod release;
mod reserve;
mod restore;

pub use prepare::Access;
pub(crate) use restore::Restored;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use model::{Claim, ClaimState, Code, Refusal};
use uuid::Uuid;

use crate::hardware::Hardware;
use crate::journal::Journal;
use crate::lock::lock;
use crate::marks::Marks;
use crate::refusals;
use crate::store::{Store, StoredClaim};
use crate::vf_counts::VfCounts;

/// Claims: [`Engine::claims`](crate::Engine::claims). They own the table `claims`; the state machine of a claim is drawn in
/// `docs/design.md`.
pub struct Claims {
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    marks: Arc<Marks>,
    vf_counts: Arc<VfCounts>,
    /// How many parts of a claim are prepared at the same time at most: each has a worker process of its own.
    at_once: Mutex<usize>,
    /// When leases end.
    deadlines: Mutex<lease::Deadlines>,
    /// Claims whose devices are all returned to the host, which their record does not say yet.
    restored: Mutex<BTreeSet<Uuid>>,
}

impl Claims {
    pub(crate) fn new(
        store: Arc<Store>,
        journal: Arc<Journal>,
        hardware: Arc<Hardware>,
        marks: Arc<Marks>,
        vf_counts: Arc<VfCounts>,
    ) -> Self {
        Self {
            store,
            journal,
            hardware,
            marks,
            vf_counts,
            at_once: Mutex::new(16),
            deadlines: Mutex::default(),
            restored: Mutex::default(),
        }
    }

    /// Limits how many parts of a claim are prepared at the same time: 16 by default. With one, the order of all steps is
    /// the plan's.
    pub(crate) fn limit_at_once(&self, most: usize) {
        *lock(&self.at_once) = most.max(1);
    }

    pub(crate) fn at_once(&self) -> usize {
        *lock(&self.at_once)
    }

    /// Remembers that a claim's devices are returned, which its record does not say yet.
    fn not_recorded_as_restored(&self, claim: Uuid) {
        lock(&self.restored).insert(claim);
    }

    fn recorded_as_restored(&self, claim: Uuid) {
        lock(&self.restored).remove(&claim);
    }

    /// A claim as it is, where its record is behind.
    fn as_it_is(&self, mut claim: Claim) -> Claim {
        if lock(&self.restored).contains(&claim.id) {
            claim.state = ClaimState::Reserved;
        }
        claim
    }

    /// A claim by its id, or by its owner `KIND/ID` who has no other.
    ///
    /// # Errors
    /// `not_found`; `conflict` where the owner has several.
    pub fn find(&self, key: &str) -> Result<Claim, Refusal> {
        self.stored_claim(key).map(|stored| self.as_it_is(stored.claim))
    }

    /// A claim by id, or the only claim of an owner `KIND/ID`.
    pub(crate) fn stored_claim(&self, key: &str) -> Result<StoredClaim, Refusal> {
        let none = || refusals::no_such("claim", key, "handover claims");
        if let Ok(id) = key.parse::<Uuid>() {
            return self.store.read(|from| StoredClaim::by_id(from, id))?.ok_or_else(none);
        }
        let Ok(owner) = key.parse() else { return Err(none()) };
        let mut claims = self.store.read(|from| StoredClaim::of_owner(from, &owner))?;
        let Some(last) = claims.pop() else { return Err(none()) };
        if claims.is_empty() {
            return Ok(last);
        }
        Err(Refusal::new(
            Code::Conflict,
            format!("{owner} has {} claims", claims.len() + 1),
            "name one by its id: `handover claims` shows them",
        ))
    }

    /// All claims.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn all(&self) -> Result<Vec<Claim>, Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        Ok(claims.into_iter().map(|stored| self.as_it_is(stored.claim)).collect())
    }

    /// Refuses a verb on a claim whose owner is ours to speak for.
    fn expect_not_an_instances(&self, claim: &StoredClaim) -> Result<(), Refusal> {
        if claim.instance().is_none() {
            return Ok(());
        }
        let owner = &claim.claim.owner;
        Err(Refusal::new(
            Code::InvalidState,
            format!("the claim {} is {owner}'s: it goes with that instance", claim.claim.id),
            format!("handover instance stop {0}, or handover instance delete {0}", owner.id),
        ))
    }
}
