//! Claims: reserved, prepared, unprepared, released; each verb an operation in the journal, and the same for its owner
//! however often it is said.

pub mod drive_out;
mod lease;
mod prepare;
mod release;
mod reserve;

pub use prepare::Access;

use model::{Claim, Code, Refusal};
use uuid::Uuid;

use crate::core::Core;
use crate::refusals;
use crate::store::StoredClaim;

impl Core {
    /// A claim by id, or the only claim of an owner `KIND/ID`.
    pub fn stored_claim(&self, key: &str) -> Result<StoredClaim, Refusal> {
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

    pub fn claims(&self) -> Result<Vec<Claim>, Refusal> {
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
