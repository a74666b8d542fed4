//! Binding, unbinding and resetting one device by hand. Each is a claim of an owner, so it is journaled, and no other
//! owner can have the device meanwhile.

use std::time::Duration;

use model::choose::Want;
use model::{Address, ClaimState, Code, Owner, Refusal, Step};

use super::Devices;
use crate::claims::no_reset;
use crate::store::{Health, StoredClaim, StoredDevice, StoredInstance};
use crate::{Access, ClaimRequest, Claimed, Consent};
use crate::{refusals, registrations};

/// The kind of owner that such a claim has by default; its id is the device's name.
const OWNER_KIND: &str = "device";

/// How long the claim of a reset stays if the daemon dies during the reset.
const RESET_LEASE: Duration = Duration::from_secs(600);

impl Devices {
    /// Binds a device, with its assembly, to its vfio driver, for an owner: `device/NAME` by default. Idempotent.
    ///
    /// # Errors
    /// Those of a claim.
    pub fn bind(
        &self,
        key: &str,
        owner: Option<Owner>,
        uid: Option<u32>,
        evict: bool,
    ) -> Result<Claimed, Refusal> {
        let address = registrations::address_of(&self.store, key)?;
        let owner = self.owner_or_default(address, owner)?;
        let reason = Some("bound by hand".to_owned());
        let wants = vec![Want::device(address)];
        self.claims.claim(&ClaimRequest { uid, evict, reason, ..ClaimRequest::new(owner, wants) })
    }

    /// Ends what [`bind`](Self::bind) did for this owner: the device returns to the state before. A device that is not
    /// bound is left unchanged. Returns notes for the owner.
    ///
    /// # Errors
    /// `in_use` if the device has another owner or a machine uses it; `invalid_state` if no claim bound it; those of a
    /// release.
    pub fn unbind(&self, key: &str, owner: Option<Owner>) -> Result<Vec<String>, Refusal> {
        let address = registrations::address_of(&self.store, key)?;
        let owner = self.owner_or_default(address, owner)?;
        let Some(claim) = self.claim_of(address)? else {
            let inventory = self.hardware.functions(&[address])?;
            let function = inventory.function(address);
            let function = function.ok_or_else(|| model::no_such_function(address))?;
            return if function.on_vfio() {
                Err(bound_by_others(address))
            } else {
                Ok(vec![format!("{address} was not bound: nothing was changed")])
            };
        };
        self.expect_owner(address, &claim, &owner)?;
        if claim.claim.parts.len() > 1 {
            return Err(Refusal::new(
                Code::InvalidState,
                format!("{address} is one of {} devices of a claim", claim.claim.parts.len()),
                format!("release all of them: `handover release {}`", claim.claim.id),
            ));
        }
        self.claims.release(&claim.claim.id.to_string(), Some(&owner))
    }

    /// Resets a device with its assembly. An unclaimed one is claimed for the owner meanwhile, and returned to the state
    /// before. Returns notes for the owner.
    ///
    /// # Errors
    /// `invalid_state` if the kernel cannot reset the device alone; `in_use` if it has another owner or is in use; those
    /// of a claim and of a release.
    pub fn reset(
        &self,
        key: &str,
        owner: Option<Owner>,
        evict: bool,
    ) -> Result<Vec<String>, Refusal> {
        let address = registrations::address_of(&self.store, key)?;
        let owner = self.owner_or_default(address, owner)?;
        self.claims.expect_healthy(&[address])?;
        if let Some(claim) = self.claim_of(address)? {
            self.expect_owner(address, &claim, &owner)?;
            let id = claim.claim.id.to_string();
            if claim.claim.state == ClaimState::Reserved {
                let consent = Consent::options(evict, false);
                self.claims.prepare(&id, &Access { consent, ..Access::default() })?;
                let done = self.claims.reset(&id, address);
                let (_, notes) = self.claims.unprepare(&id)?;
                return done.map(|()| notes);
            }
            return self.claims.reset(&id, address).map(|()| Vec::new());
        }
        let wants = vec![Want::device(address)];
        let reason = Some("reset by hand".to_owned());
        let lease = Some(RESET_LEASE);
        let request = ClaimRequest {
            reset: true,
            evict,
            lease,
            reason,
            ..ClaimRequest::new(owner.clone(), wants)
        };
        let (_, plan) = self.claims.dry_run(&request)?;
        if !plan.steps().any(|step| resets(step, address)) {
            return Err(no_reset(&self.hardware.inventory()?, address));
        }
        let claimed = self.claims.claim(&request)?;
        self.claims.release(&claimed.claim.id.to_string(), Some(&owner))
    }

    /// The owner, or the default one of the device.
    fn owner_or_default(&self, address: Address, owner: Option<Owner>) -> Result<Owner, Refusal> {
        if let Some(owner) = owner {
            return Ok(owner);
        }
        let registered = self.store.read(StoredDevice::all)?;
        let device = registered.into_iter().find(|device| device.address == address);
        let id = device.map_or_else(|| address.to_string(), |device| device.name);
        Ok(Owner { kind: OWNER_KIND.to_owned(), id })
    }

    /// Refuses a claim of another owner. One of an instance is released by the instance, and one that could not be restored
    /// needs manual attention.
    fn expect_owner(
        &self,
        address: Address,
        claim: &StoredClaim,
        owner: &Owner,
    ) -> Result<(), Refusal> {
        let actual = &claim.claim.owner;
        if actual == owner && claim.claim.state != ClaimState::Wedged {
            return Ok(());
        }
        if claim.instance().is_some() || claim.claim.state == ClaimState::Wedged {
            let (instances, health) =
                self.store.read(|from| Ok((StoredInstance::all(from)?, Health::all(from)?)))?;
            let why = refusals::claimed(claim, &instances, &health);
            return Err(Refusal { message: format!("{address} {}", why.message), ..why });
        }
        Err(Refusal::new(
            Code::InUse,
            format!("{address} is claimed by {actual}, not by {owner}"),
            format!(
                "give that owner if you are it (`--owner {actual}`); `handover claims` lists all claims"
            ),
        ))
    }

    /// The claim that takes this function from the host.
    fn claim_of(&self, address: Address) -> Result<Option<StoredClaim>, Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        Ok(claims.into_iter().find(|claim| claim.claim.holds(address)))
    }
}

/// Whether a step resets this function.
fn resets(step: &Step, function: Address) -> bool {
    matches!(step, Step::Reset { domain, .. } if domain.contains(&function))
}

fn bound_by_others(address: Address) -> Refusal {
    Refusal::new(
        Code::InvalidState,
        format!("{address} is on a vfio driver, but no claim of Handover bound it"),
        format!("if nothing uses it: `handover return {address}`"),
    )
}
