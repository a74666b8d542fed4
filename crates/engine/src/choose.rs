//! Which assemblies a request gets, or the reason why it cannot have them. Nothing here changes anything.

use model::{
    Address, Assembly, Claim, ClaimState, ClaimedMember, Code, Inventory, Owner, Refusal, Role,
};
use uuid::Uuid;

use crate::core::Core;
use crate::refusals;
use crate::store::{Health, StoredClaim, StoredDevice, StoredInstance};

impl Core {
    /// The claims that would give these devices to an instance.
    pub fn choose(
        &self,
        instance: Uuid,
        devices: &[StoredDevice],
    ) -> Result<Vec<StoredClaim>, Refusal> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let inventory = self.inventory()?;
        let mut chosen: Vec<StoredClaim> = Vec::new();
        for (position, device) in (0..).zip(devices) {
            let assembly = self.whole_assembly(&inventory, device.address)?;
            let members: Vec<Address> = assembly.members.iter().map(|m| m.address).collect();
            let taken: Vec<Address> = assembly.taken().map(|member| member.address).collect();
            if let Some(other) = chosen.iter().find(|other| overlap(&members, &other.claim)) {
                return Err(Refusal::new(
                    Code::Conflict,
                    format!(
                        "{} and {} go together: whoever gets one gets the other",
                        device.address, other.claim.head
                    ),
                    "ask for one of them only",
                ));
            }
            self.expect_available(&members)?;
            self.expect_no_holder(&taken)?;
            chosen.push(self.claim(instance, device, &assembly, position)?);
        }
        Ok(chosen)
    }

    pub fn inventory(&self) -> Result<Inventory, Refusal> {
        self.host.inventory().map_err(|error| refusals::unreadable(&error))
    }

    /// The assembly of a function that nothing on the host stands in the way of.
    pub fn whole_assembly(
        &self,
        inventory: &Inventory,
        head: Address,
    ) -> Result<Assembly, Refusal> {
        let assembly =
            Assembly::of(inventory, head).ok_or_else(|| model::no_such_function(head))?;
        match assembly.obstacles(inventory).into_iter().next() {
            Some(obstacle) => Err(obstacle),
            None => Ok(assembly),
        }
    }

    /// Refuses an assembly of which something is claimed, or waits for a person.
    pub fn expect_available(&self, members: &[Address]) -> Result<(), Refusal> {
        self.expect_healthy(members)?;
        let claims = self.store.read(StoredClaim::all)?;
        match claims.iter().find(|claim| overlap(members, &claim.claim)) {
            Some(claim) => Err(self.claimed(claim)?),
            None => Ok(()),
        }
    }

    /// Refuses functions that wait for a person.
    pub fn expect_healthy(&self, functions: &[Address]) -> Result<(), Refusal> {
        let health = self.store.read(Health::all)?;
        let Some(health) = health.iter().find(|health| functions.contains(&health.address)) else {
            return Ok(());
        };
        let Health { address, reason } = health;
        Err(refusals::wedged(&format!("{address} waits for a person: {reason}")))
    }

    fn claimed(&self, claim: &StoredClaim) -> Result<Refusal, Refusal> {
        let head = claim.claim.head;
        if claim.claim.state == ClaimState::Wedged {
            return Ok(refusals::wedged(&format!("{head} could not be given back to the host")));
        }
        let id = claim.instance().unwrap_or_default();
        let owner = self.store.read(|from| StoredInstance::by_id(from, id))?;
        let name = owner.map_or_else(|| claim.claim.owner.id.clone(), |row| row.instance.name);
        Ok(Refusal::new(
            Code::InUse,
            format!("{head} is attached to the instance {name:?}"),
            format!("handover instance delete {name}"),
        ))
    }

    /// Refuses functions that somebody else uses.
    pub fn expect_no_holder(&self, taken: &[Address]) -> Result<(), Refusal> {
        let holders = self.host.holders(taken);
        let holders = holders.map_err(|error| refusals::users_unknown(taken, &error))?;
        let Some(holder) = holders.first() else { return Ok(()) };
        Err(Refusal::new(
            Code::InUse,
            format!("{} is used by {} ({})", holder.address, holder.user, holder.by),
            "stop it first, and try again",
        ))
    }

    fn claim(
        &self,
        instance: Uuid,
        device: &StoredDevice,
        assembly: &Assembly,
        position: u32,
    ) -> Result<StoredClaim, Refusal> {
        let addresses: Vec<Address> = assembly.members.iter().map(|m| m.address).collect();
        let found = self.host.as_found(&addresses).map_err(|error| refusals::unreadable(&error))?;
        let mut members = Vec::new();
        for (member, found) in assembly.members.iter().zip(found) {
            if member.address == device.address && !device.fingerprint.matches(&found.fingerprint) {
                return Err(changed(device.address));
            }
            members.push(ClaimedMember {
                address: member.address,
                role: member.role,
                fingerprint: found.fingerprint,
                as_found: None,
            });
        }
        Ok(StoredClaim {
            device: device.id,
            position,
            claim: Claim {
                id: Uuid::new_v4(),
                owner: Owner::instance(instance),
                head: device.address,
                members,
                state: ClaimState::Reserved,
                boot_id: None,
            },
        })
    }

    /// Refuses a claim that does not cover its assembly any more: groups and drivers can change over a restart.
    pub fn expect_same_assembly(
        &self,
        inventory: &Inventory,
        claim: &Claim,
    ) -> Result<(), Refusal> {
        let assembly = self.whole_assembly(inventory, claim.head)?;
        let Some(new) = assembly.taken().find(|member| !claim.holds(member.address)) else {
            return Ok(());
        };
        Err(Refusal::new(
            Code::InvalidState,
            format!(
                "{} now goes together with {} ({}), which this instance does not have",
                claim.head, new.address, new.reason
            ),
            "delete the instance and create it again",
        ))
    }
}

/// The refusal for another device at a known address.
pub fn changed(address: Address) -> Refusal {
    Refusal::new(
        Code::FingerprintChanged,
        format!("the device at {address} is not the one that was registered there"),
        format!(
            "if it was exchanged on purpose, delete its registration and register {address} again"
        ),
    )
}

/// Whether an assembly of these members shares one with a claim.
pub fn overlap(members: &[Address], claim: &Claim) -> bool {
    members.iter().any(|address| claim.covers(*address))
}

/// All functions of a claim.
pub fn members(claim: &Claim) -> Vec<Address> {
    claim.members.iter().map(|member| member.address).collect()
}

/// The functions that a claim takes from the host.
pub fn taken(claim: &Claim) -> Vec<Address> {
    let taken = claim.members.iter().filter(|member| member.role != Role::Bystander);
    taken.map(|member| member.address).collect()
}
