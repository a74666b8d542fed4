//! Leases of claims.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Claim, Code, Refusal};

use super::Claims;
use crate::store::{Durability, StoredClaim};

/// When a lease that starts now expires, in seconds since 1970.
pub fn from_now(lease: Duration) -> u64 {
    now().saturating_add(lease.as_secs())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Claims {
    /// Renews the lease of a claim, starting now; with `None` the claim lasts until it is released.
    ///
    /// # Errors
    /// `not_found`.
    pub fn renew(&self, key: &str, lease: Option<Duration>) -> Result<Claim, Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        let _turn = self.journal.turn_of(id)?;
        let mut claim = self.stored_claim(&id.to_string())?;
        self.expect_not_an_instances(&claim)?;
        claim.claim.expires = lease.map(from_now);
        self.store.write(Durability::Power, |tx| claim.update(tx))?;
        Ok(claim.claim)
    }

    /// Releases the claims whose lease expired. Returns a refusal for each that could not be released, and the time
    /// until the next lease expires.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn release_expired(&self) -> Result<(Vec<Refusal>, Option<Duration>), Refusal> {
        Ok((self.release_overdue()?, self.next_expiry()?))
    }

    /// Releases the claims whose lease expired, except those in use: an expired lease does not take a device from a
    /// running machine.
    fn release_overdue(&self) -> Result<Vec<Refusal>, Refusal> {
        let mut kept = Vec::new();
        for claim in self.store.read(StoredClaim::all)? {
            let over = claim.claim.expires.is_some_and(|at| at <= now());
            if !over || claim.is_orphan() {
                continue;
            }
            tracing::info!(claim = %claim.claim.id, owner = %claim.claim.owner, "lease expired");
            match self.release(&claim.claim.id.to_string(), None) {
                Ok(notes) => {
                    notes.iter().for_each(|note| tracing::warn!(claim = %claim.claim.id, "{note}"));
                }
                Err(refusal) if refusal.code == Code::StateUnusable => return Err(refusal),
                Err(refusal) => kept.push(refusal),
            }
        }
        Ok(kept)
    }

    /// Time until the next lease expires.
    fn next_expiry(&self) -> Result<Option<Duration>, Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        let own = claims.iter().filter(|claim| !claim.is_orphan());
        let next = own.filter_map(|claim| claim.claim.expires).min();
        Ok(next.map(|at| Duration::from_secs(at.saturating_sub(now()))))
    }
}
