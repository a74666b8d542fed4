//! Leases: claims for a limited time.
//!
//! While the daemon runs, a lease is measured by uptime (including suspend), a clock that never jumps. The store has only
//! the time of day at which it expires; after a restart the lease expires by whichever of the two clocks comes first.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Claim, Code, Moment, Refusal};
use uuid::Uuid;

use super::Claims;
use crate::lock::lock;
use crate::store::{Durability, StoredClaim};

/// When leases expire, by uptime.
#[derive(Default)]
pub struct Deadlines {
    by_claim: BTreeMap<Uuid, Deadline>,
}

#[derive(Clone, Copy)]
struct Deadline {
    /// The time of day that it was derived from, in seconds since 1970. If the claim has another one, it was renewed.
    expires: u64,
    uptime: Duration,
    /// Whether the lease began in this process, so that its duration is known.
    whole: bool,
}

impl Deadlines {
    fn begin(&mut self, claim: Uuid, expires: u64, lease: Duration, now: Moment) {
        let uptime = now.uptime.saturating_add(lease);
        self.by_claim.insert(claim, Deadline { expires, uptime, whole: true });
    }

    /// The time until the lease expires; zero if it has expired.
    fn left(&mut self, claim: Uuid, expires: u64, now: Moment) -> Duration {
        let by_day = Duration::from_secs(expires.saturating_sub(now.unix));
        let known = self.by_claim.get(&claim).filter(|deadline| deadline.expires == expires);
        let deadline = known.copied().unwrap_or(Deadline {
            expires,
            uptime: now.uptime.saturating_add(by_day),
            whole: false,
        });
        self.by_claim.insert(claim, deadline);
        let left = deadline.uptime.saturating_sub(now.uptime);
        if deadline.whole { left } else { left.min(by_day) }
    }

    fn keep(&mut self, claims: &[StoredClaim]) {
        self.by_claim.retain(|id, _| claims.iter().any(|claim| claim.claim.id == *id));
    }
}

impl Claims {
    /// When a lease that starts now expires, in seconds since 1970.
    pub(super) fn expiry(&self, lease: Duration) -> u64 {
        let expires = self.hardware.host.now().unix.saturating_add(lease.as_secs());
        // The last moment that the store can record: what is answered is what is stored.
        expires.min(i64::MAX.unsigned_abs())
    }

    /// Starts the lease of a claim that was just recorded with it.
    pub(super) fn start_lease(&self, claim: &Claim, lease: Option<Duration>) {
        if let (Some(lease), Some(expires)) = (lease, claim.expires) {
            lock(&self.deadlines).begin(claim.id, expires, lease, self.hardware.host.now());
        }
    }

    /// Renews the lease of a claim, from now on; without one (`None`) the claim lasts until it is released.
    ///
    /// # Errors
    /// `not_found`.
    pub fn renew(&self, key: &str, lease: Option<Duration>) -> Result<Claim, Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        let _turn = self.journal.turn_of(id)?;
        let mut claim = self.stored_claim(&id.to_string())?;
        self.expect_not_an_instances(&claim)?;
        claim.claim.expires = lease.map(|lease| self.expiry(lease));
        self.store.write(Durability::Power, |tx| claim.update(tx))?;
        self.start_lease(&claim.claim, lease);
        Ok(claim.claim)
    }

    /// Releases the claims whose lease expired. Returns why some could not be released, and how long until the next lease
    /// expires.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn release_expired(&self) -> Result<(Vec<Refusal>, Option<Duration>), Refusal> {
        let (over, _) = self.leases()?;
        Ok((self.release_overdue(&over)?, self.leases()?.1))
    }

    /// The claims whose lease expired, and the time until the next lease expires.
    fn leases(&self) -> Result<(Vec<StoredClaim>, Option<Duration>), Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        let now = self.hardware.host.now();
        let mut deadlines = lock(&self.deadlines);
        deadlines.keep(&claims);
        let (mut over, mut next) = (Vec::new(), None);
        for claim in claims.into_iter().filter(|claim| !claim.is_orphan()) {
            let Some(expires) = claim.claim.expires else { continue };
            let left = deadlines.left(claim.claim.id, expires, now);
            if left.is_zero() {
                over.push(claim);
            } else {
                next = Some(next.map_or(left, |next: Duration| next.min(left)));
            }
        }
        Ok((over, next))
    }

    /// Releases claims whose lease expired. A claim in use stays until it is no longer used: devices are not taken from a
    /// running machine.
    fn release_overdue(&self, over: &[StoredClaim]) -> Result<Vec<Refusal>, Refusal> {
        let mut kept = Vec::new();
        for claim in over {
            match self.release_if_expired(claim.claim.id) {
                Ok(None) => {}
                Ok(Some(notes)) => {
                    tracing::info!(claim = %claim.claim.id, owner = %claim.claim.owner, "lease expired, claim released");
                    notes.iter().for_each(|note| tracing::warn!(claim = %claim.claim.id, "{note}"));
                }
                Err(refusal) if refusal.code == Code::StateUnusable => return Err(refusal),
                Err(refusal) => kept.push(refusal),
            }
        }
        Ok(kept)
    }

    /// Releases a claim, unless its lease was renewed or the claim was released meanwhile: then `None`.
    fn release_if_expired(&self, id: Uuid) -> Result<Option<Vec<String>>, Refusal> {
        // A claim that is being prepared is not wanted any more.
        self.journal.turns.cancel(id);
        let _turn = self.journal.turn_of(id)?;
        let Some(claim) = self.store.read(|from| StoredClaim::by_id(from, id))? else {
            return Ok(None);
        };
        let Some(expires) = claim.claim.expires else { return Ok(None) };
        let left = lock(&self.deadlines).left(id, expires, self.hardware.host.now());
        if !left.is_zero() {
            return Ok(None);
        }
        self.release_in_turn(&claim).map(Some)
    }
}
