//! Claims: reserve, prepare, unprepare, release. Each verb is an operation in the journal, and idempotent for its
//! owner.

mod available;
mod blocks;
pub(crate) mod choose;
mod differences;
mod display;
mod evict;
mod fabric;
mod lease;
mod modes;
mod prepare;
mod release;
mod reserve;
mod reset;
mod restore;
mod unknown;

pub(crate) use differences::differences;
pub use prepare::Access;
pub(crate) use reset::no_reset;
pub(crate) use restore::Restored;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use model::catalog::Catalog;
use model::{Address, Claim, ClaimState, Code, Refusal};
use uuid::Uuid;

use crate::hardware::Hardware;
use crate::journal::Journal;
use crate::lock::lock;
use crate::marks::Marks;
use crate::owners;
use crate::refusals;
use crate::store::{Store, StoredClaim};
use crate::vf_counts::VfCounts;

/// Claims: [`Engine::claims`](crate::Engine::claims). Owns the table `claims`; the state machine of a claim is drawn in
/// `docs/design.md`.
pub struct Claims {
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    marks: Arc<Marks>,
    vf_counts: Arc<VfCounts>,
    /// How many parts of a claim are prepared in parallel: each has its own worker process.
    at_once: Mutex<usize>,
    /// When leases expire.
    deadlines: Mutex<lease::Deadlines>,
    /// The devices file, whose names requests can use.
    catalog: RwLock<Arc<Catalog>>,
    /// Claims whose devices are all restored, but whose record does not show that yet.
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
            catalog: RwLock::default(),
            restored: Mutex::default(),
        }
    }

    /// Takes another devices file from now on. What is claimed stays so.
    pub(crate) fn set_catalog(&self, catalog: Catalog) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Limits how many parts of a claim are prepared in parallel: 16 by default. With 1, all steps run in the plan's
    /// order.
    pub(crate) fn limit_at_once(&self, most: usize) {
        *lock(&self.at_once) = most.max(1);
    }

    pub(crate) fn at_once(&self) -> usize {
        *lock(&self.at_once)
    }

    /// Remembers that a claim's devices are restored while its record does not show that yet.
    fn not_recorded_as_restored(&self, claim: Uuid) {
        lock(&self.restored).insert(claim);
    }

    fn recorded_as_restored(&self, claim: Uuid) {
        lock(&self.restored).remove(&claim);
    }

    /// Whether a claim's devices are restored and its record does not show that yet.
    pub(crate) fn lacks_record_of_restoring(&self, claim: Uuid) -> bool {
        lock(&self.restored).contains(&claim)
    }

    /// The claim with its actual state, if its record is behind.
    fn with_actual_state(&self, mut claim: Claim) -> Claim {
        if lock(&self.restored).contains(&claim.id) {
            claim.state = ClaimState::Reserved;
        }
        claim
    }

    /// A claim by id, or the only claim of an owner `KIND/ID`.
    ///
    /// # Errors
    /// `not_found`; `conflict` if the owner has several.
    pub fn find(&self, key: &str) -> Result<Claim, Refusal> {
        self.stored_claim(key).map(|stored| self.with_actual_state(stored.claim))
    }

    /// The marks on functions.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The record of a claim by id, or of the only claim of an owner `KIND/ID`.
    pub(crate) fn stored_claim(&self, key: &str) -> Result<StoredClaim, Refusal> {
        let none = || refusals::no_such("claim", key, "handover claims");
        if let Ok(id) = key.parse::<Uuid>() {
            return self.store.read(|from| StoredClaim::by_id(from, id))?.ok_or_else(none);
        }
        let Some(owner) = owners::parsed(&self.store, key)? else {
            return Err(self.claim_of_device(key)?.map_or_else(none, |claim| {
                Refusal::new(
                    Code::NotFound,
                    format!("{key} is a device and no claim; that of {} has it", claim.claim.owner),
                    format!("give the claim's id or owner: `handover release {}`", claim.claim.id),
                )
            }));
        };
        let mut claims = self.store.read(|from| StoredClaim::of_owner(from, &owner))?;
        let Some(last) = claims.pop() else { return Err(none()) };
        if claims.is_empty() {
            return Ok(last);
        }
        let remedy = match last.instance().and_then(|_| owners::instance_name(&self.store, &owner))
        {
            Some(name) => format!(
                "they change only with the instance: `handover instance detach {name} DEVICE` takes one from it; `handover claims` \
                 lists them"
            ),
            None => "give the id of one: `handover claims` lists them".to_owned(),
        };
        Err(Refusal::new(
            Code::Conflict,
            format!("{owner} has {} claims", claims.len() + 1),
            remedy,
        ))
    }

    /// The claim that holds the function with this address, if the text is one.
    fn claim_of_device(&self, text: &str) -> Result<Option<StoredClaim>, Refusal> {
        let Ok(address) = text.parse::<Address>() else { return Ok(None) };
        let claims = self.store.read(StoredClaim::all)?;
        Ok(claims.into_iter().find(|claim| claim.claim.holds(address)))
    }

    /// All claims.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn all(&self) -> Result<Vec<Claim>, Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        Ok(claims.into_iter().map(|stored| self.with_actual_state(stored.claim)).collect())
    }

    /// Refuses a verb on a claim of an instance: only the instance's own verbs change it.
    fn expect_not_an_instances(&self, claim: &StoredClaim) -> Result<(), Refusal> {
        if claim.instance().is_none() {
            return Ok(());
        }
        let owner = &claim.claim.owner;
        let name = owners::instance_name(&self.store, owner).unwrap_or_else(|| owner.id.clone());
        Err(Refusal::new(
            Code::InvalidState,
            format!(
                "claim {} belongs to the instance {name:?} and changes only with it",
                claim.claim.id
            ),
            refusals::detach_first(&name, &claim.claim),
        ))
    }
}
