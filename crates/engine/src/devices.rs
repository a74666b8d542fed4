//! Registrations: which assemblies may be handed over, by name.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::{
    Address, Assembly, Checked, Claim, ClaimState, Code, Holder, Inventory, Kind, Refusal,
    check_device_name,
};
use uuid::Uuid;

use crate::core::{Core, held};
use crate::instances::has_tags;
use crate::refusals;
use crate::store::{Durability, Health, StoredClaim, StoredDevice};
use crate::{
    AvailableDevice, AvailableFilter, Device, DeviceState, HealthState, OperationKind, Outcome,
    RegisterDevice,
};

impl Core {
    /// The functions that can be handed over and are not handed over yet.
    pub fn available(&self, filter: &AvailableFilter) -> Result<Vec<AvailableDevice>, Refusal> {
        let inventory = self.inventory()?;
        let (claims, health) =
            self.store.read(|from| Ok((StoredClaim::all(from)?, Health::all(from)?)))?;
        let mut available = Vec::new();
        for function in inventory.functions.values() {
            let wanted = match filter {
                AvailableFilter::Gpus => {
                    function.kind() == Kind::Gpu || function.vendor == model::Id(0x10de)
                }
                AvailableFilter::All => true,
                AvailableFilter::Kind(kind) => function.kind() == *kind,
            };
            let (true, Some(group)) = (wanted, function.iommu_group) else { continue };
            let Some(assembly) = Assembly::of(&inventory, function.address) else { continue };
            let members: Vec<Address> = assembly.members.iter().map(|m| m.address).collect();
            let claimed = claims.iter().any(|claim| concerns(&claim.claim, &members));
            let wedged = health.iter().any(|health| members.contains(&health.address));
            if claimed || wedged || !assembly.obstacles(&inventory).is_empty() {
                continue;
            }
            let (vendor, device) = (function.vendor, function.device);
            available.push(AvailableDevice {
                address: function.address,
                kind: function.kind(),
                vendor,
                device,
                vendor_name: function.vendor_name.clone().unwrap_or_else(|| vendor.to_string()),
                device_name: function.device_name.clone().unwrap_or_else(|| device.to_string()),
                iommu_group: group,
                driver: function.driver.clone(),
            });
        }
        Ok(available)
    }

    pub fn register(&self, request: RegisterDevice) -> Result<Device, Refusal> {
        let address: Address = request.address.parse()?;
        let name = request.name.unwrap_or_else(|| default_name(address));
        check_device_name(&name)?;
        let inventory = self.inventory()?;
        let assembly =
            Assembly::of(&inventory, address).ok_or_else(|| model::no_such_function(address))?;
        // Whatever else stands in the way can change before the device is handed over.
        let never = [Code::NotAssignable, Code::NoIommu];
        let mut obstacles = assembly.obstacles(&inventory).into_iter();
        if let Some(obstacle) = obstacles.find(|obstacle| never.contains(&obstacle.code)) {
            return Err(obstacle);
        }
        let found = self.host.as_found(&[address]).map_err(|error| refusals::unreadable(&error))?;
        let (Some(found), Some(function)) = (found.into_iter().next(), inventory.function(address))
        else {
            return Err(model::no_such_function(address));
        };
        let device = StoredDevice {
            id: Uuid::new_v4(),
            name,
            address,
            kind: function.kind(),
            fingerprint: found.fingerprint,
            tags: request.tags,
            created_at: Timestamp::now(),
        };
        let _choosing = held(&self.choosing);
        for other in self.store.read(StoredDevice::all)? {
            if other.address == address || other.name == device.name {
                return Err(registered(&other));
            }
        }
        self.write(Durability::Power, |tx| device.insert(tx))?;
        Ok(show(device, &Sight::of(inventory)))
    }

    pub fn devices(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Device>, Refusal> {
        let devices = self.store.read(StoredDevice::all)?;
        let devices: Vec<StoredDevice> =
            devices.into_iter().filter(|device| has_tags(&device.tags, tags)).collect();
        let sight = self.sight(&devices)?;
        Ok(devices.into_iter().map(|device| show(device, &sight)).collect())
    }

    pub fn device(&self, key: &str) -> Result<Device, Refusal> {
        let device = self.stored_device(key)?;
        let sight = self.sight(std::slice::from_ref(&device))?;
        Ok(show(device, &sight))
    }

    /// What the states of devices are told from.
    fn sight(&self, devices: &[StoredDevice]) -> Result<Sight, Refusal> {
        let mut sight = Sight::of(self.inventory()?);
        (sight.claims, sight.health) =
            self.store.read(|from| Ok((StoredClaim::all(from)?, Health::all(from)?)))?;
        let assemblies = devices.iter().filter_map(|d| Assembly::of(&sight.inventory, d.address));
        let all: BTreeSet<Address> = assemblies
            .flat_map(|assembly| assembly.taken().map(|member| member.address).collect::<Vec<_>>())
            .collect();
        // Who cannot be told to use a device is no reason not to show the devices.
        if !all.is_empty() {
            let all: Vec<Address> = all.into_iter().collect();
            sight.holders = self.host.holders(&all).unwrap_or_default();
        }
        Ok(sight)
    }

    /// A registration by id, name or address.
    pub fn stored_device(&self, key: &str) -> Result<StoredDevice, Refusal> {
        let devices = self.store.read(StoredDevice::all)?;
        let id: Option<Uuid> = key.parse().ok();
        let address: Option<Address> = key.parse().ok();
        let by_name = devices.iter().position(|device| device.name == key);
        let found = by_name.or_else(|| {
            devices
                .iter()
                .position(|device| Some(device.id) == id || Some(device.address) == address)
        });
        found
            .and_then(|index| devices.into_iter().nth(index))
            .ok_or_else(|| refusals::no_such("device", key, "handover device ls"))
    }

    pub fn delete_device(&self, key: &str) -> Result<(), Refusal> {
        let _choosing = held(&self.choosing);
        let device = self.stored_device(key)?;
        let claims = self.store.read(StoredClaim::all)?;
        if let Some(claim) = claims.iter().find(|claim| claim.device == Some(device.id)) {
            let owner = &claim.claim.owner;
            return Err(Refusal::new(
                Code::InUse,
                format!("the device {:?} is attached ({} {})", device.name, owner.kind, owner.id),
                format!(
                    "delete the instance first; where there is none any more: handover device clear {}",
                    device.name
                ),
            ));
        }
        self.write(Durability::Power, |tx| StoredDevice::delete(tx, device.id))
    }

    /// A person says that a device is well again: what was left of its hand-over is undone now. Gives what that person should
    /// know.
    pub fn clear(&self, key: &str) -> Result<Vec<String>, Refusal> {
        let address = self.address_of(key)?;
        let claims = self.store.read(StoredClaim::all)?;
        let mut functions = BTreeSet::from([address]);
        if let Some(assembly) = Assembly::of(&self.inventory()?, address) {
            functions.extend(assembly.taken().map(|member| member.address));
        }
        for claim in claims.iter().filter(|claim| claim.claim.covers(address)) {
            functions.extend(claim.claim.taken());
        }
        for address in &functions {
            if self.any_locked([*address])? {
                return Err(refusals::wedged(&format!(
                    "an earlier step on {address} is still inside the kernel"
                )));
            }
            // A card that is pulled out and put back can be another one; one that is gone answers to nobody.
            if self.host.check(*address, None) == Ok(Checked::Silent) {
                return Err(refusals::wedged(&format!(
                    "{address} still does not answer: its configuration space reads as ones"
                )));
            }
        }
        let functions: Vec<Address> = functions.into_iter().collect();
        for claim in claims {
            let concerned = functions.iter().any(|address| claim.claim.holds(*address));
            if concerned && claim.claim.state == ClaimState::Wedged {
                self.retry(claim)?;
            }
        }
        for address in &functions {
            self.retry_vf_counts(Some(*address))?;
        }
        let notes = self.clear_marks(&functions)?;
        self.write(Durability::Power, |tx| {
            functions.iter().try_for_each(|address| Health::clear(tx, *address))
        })?;
        Ok(notes)
    }

    /// A function by its address, or by the id or name of its registration.
    pub fn address_of(&self, key: &str) -> Result<Address, Refusal> {
        match key.parse() {
            Ok(address) => Ok(address),
            Err(_) => self.stored_device(key).map(|device| device.address),
        }
    }

    /// Tries again to give a wedged claim's devices back.
    pub fn retry(&self, claim: StoredClaim) -> Result<Vec<String>, Refusal> {
        let id = claim.claim.id;
        let subject = claim.subject();
        let _turn = self.turn(subject);
        // It may have been given back while we waited for our turn.
        let claims = self.store.read(StoredClaim::all)?;
        let Some(mut claim) = claims
            .into_iter()
            .find(|claim| claim.claim.id == id && claim.claim.state == ClaimState::Wedged)
        else {
            return Ok(Vec::new());
        };
        let operation = self.open_operation(OperationKind::Restore, subject, |_| Ok(()))?;
        let outcome = self.restore_claim(&operation, &mut claim, None, self.moment())?;
        if let Some(refusal) = outcome.refusal() {
            self.close_operation(&operation, Outcome::Failed, Some(&refusal.message), |_| Ok(()))?;
            return Err(refusal);
        }
        self.close_operation(&operation, Outcome::Done, None, |tx| {
            if claim.is_orphan() { StoredClaim::delete(tx, id) } else { Ok(()) }
        })?;
        Ok(outcome.notes)
    }
}

fn default_name(address: Address) -> String {
    format!("pci-{}", address.to_string().replace([':', '.'], "-"))
}

fn registered(other: &StoredDevice) -> Refusal {
    Refusal::new(
        Code::Conflict,
        format!("{} is registered as {:?} already", other.address, other.name),
        format!("use it, or `handover device rm {}` first", other.name),
    )
}

/// What the states of devices are told from.
struct Sight {
    inventory: Inventory,
    claims: Vec<StoredClaim>,
    health: Vec<Health>,
    holders: Vec<Holder>,
}

impl Sight {
    const fn of(inventory: Inventory) -> Self {
        Self { inventory, claims: Vec::new(), health: Vec::new(), holders: Vec::new() }
    }

    /// How a device is, and why it is not free.
    fn state(&self, device: &StoredDevice) -> (DeviceState, Option<String>) {
        let assembly = Assembly::of(&self.inventory, device.address);
        let mut functions = vec![device.address];
        functions.extend(assembly.iter().flat_map(|all| all.taken().map(|member| member.address)));
        if let Some(health) = self.health.iter().find(|h| functions.contains(&h.address)) {
            let state = match health.state {
                HealthState::Wedged => DeviceState::Wedged,
                HealthState::Quarantined => DeviceState::Quarantined,
            };
            return (state, Some(format!("{} (since {})", health.reason, health.since)));
        }
        if assembly.is_none() {
            return (DeviceState::Absent, Some("it is not on the host now".into()));
        }
        let claim = self.claims.iter().find(|claim| concerns(&claim.claim, &functions));
        if let Some(claim) = claim {
            return (DeviceState::Claimed, Some(format!("by {}", claim.claim.owner)));
        }
        if let Some(holder) = self.holders.iter().find(|h| functions.contains(&h.address)) {
            return (DeviceState::Foreign, Some(format!("{} ({})", holder.user, holder.by)));
        }
        (DeviceState::Free, None)
    }
}

/// Whether a claim has one of these functions, or a part of one.
fn concerns(claim: &Claim, functions: &[Address]) -> bool {
    functions.iter().any(|address| claim.covers(*address) || claim.pins(*address))
}

fn show(device: StoredDevice, sight: &Sight) -> Device {
    let function = sight.inventory.function(device.address);
    let attached = sight.claims.iter().find(|claim| claim.device == Some(device.id));
    let (state, state_reason) = sight.state(&device);
    Device {
        id: device.id,
        name: device.name,
        address: device.address,
        kind: device.kind,
        vendor: device.fingerprint.vendor,
        device: device.fingerprint.device,
        iommu_group: function.and_then(|function| function.iommu_group),
        bound_to_vfio: function.is_some_and(model::Function::on_vfio),
        attached_to: attached.and_then(StoredClaim::instance),
        state,
        state_reason,
        created_at: device.created_at,
        tags: device.tags,
    }
}
