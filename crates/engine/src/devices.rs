//! Registrations: which assemblies may be handed over, by name.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::{
    Address, Assembly, ClaimState, Code, Inventory, Kind, Lock, Refusal, check_device_name,
};
use uuid::Uuid;

use crate::choose::{overlap, taken};
use crate::core::{Core, held};
use crate::instances::has_tags;
use crate::refusals;
use crate::store::{Durability, Health, StoredClaim, StoredDevice};
use crate::{AvailableDevice, AvailableFilter, Device, RegisterDevice};

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
            let claimed = claims.iter().any(|claim| overlap(&members, &claim.claim));
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
        let address: Address = request.address.parse().map_err(|error: model::AddressError| {
            Refusal::new(
                Code::InvalidPciAddress,
                error.to_string(),
                "write it as in 0000:a2:00.0; `handover ls` shows the addresses",
            )
        })?;
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
        self.store.write(Durability::Power, |tx| device.insert(tx))?;
        Ok(show(device, &inventory, &[]))
    }

    pub fn devices(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Device>, Refusal> {
        let inventory = self.inventory()?;
        let (devices, claims) =
            self.store.read(|from| Ok((StoredDevice::all(from)?, StoredClaim::all(from)?)))?;
        Ok(devices
            .into_iter()
            .filter(|device| has_tags(&device.tags, tags))
            .map(|device| show(device, &inventory, &claims))
            .collect())
    }

    pub fn device(&self, key: &str) -> Result<Device, Refusal> {
        let device = self.stored_device(key)?;
        let claims = self.store.read(StoredClaim::all)?;
        Ok(show(device, &self.inventory()?, &claims))
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
        if let Some(claim) = claims.iter().find(|claim| claim.device == device.id) {
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
        self.store.write(Durability::Power, |tx| StoredDevice::delete(tx, device.id))
    }

    /// A person says that a wedged device is well again: what was left is given back now.
    pub fn clear(&self, key: &str) -> Result<Device, Refusal> {
        let device = self.stored_device(key)?;
        let claims = self.store.read(StoredClaim::all)?;
        let mut functions = BTreeSet::from([device.address]);
        if let Some(assembly) = Assembly::of(&self.inventory()?, device.address) {
            functions.extend(assembly.taken().map(|member| member.address));
        }
        for claim in claims.iter().filter(|claim| claim.device == device.id) {
            functions.extend(taken(&claim.claim));
        }
        for address in &functions {
            let locked = self.host.is_locked(&Lock::Function(*address));
            if locked.map_err(|error| refusals::unreadable(&error))? {
                return Err(refusals::wedged(&format!(
                    "an earlier step on {address} is still inside the kernel"
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
        self.store.write(Durability::Power, |tx| {
            functions.iter().try_for_each(|address| Health::clear(tx, *address))
        })?;
        self.device(&device.id.to_string())
    }

    /// Tries again to give a wedged claim's devices back.
    pub fn retry(&self, claim: StoredClaim) -> Result<Vec<String>, Refusal> {
        let id = claim.claim.id;
        let owner = claim.claim.owner.id.parse().unwrap_or_default();
        let _turn = self.turn(owner);
        // It may have been given back while we waited for our turn.
        let claims = self.store.read(StoredClaim::all)?;
        let Some(mut claim) = claims
            .into_iter()
            .find(|claim| claim.claim.id == id && claim.claim.state == ClaimState::Wedged)
        else {
            return Ok(Vec::new());
        };
        let operation = self.open_operation("restore", owner, |_| Ok(()))?;
        let outcome = self.restore_claim(&operation, &mut claim, None, self.moment())?;
        if let Some(refusal) = outcome.refusal() {
            self.close_operation(&operation, "failed", Some(&refusal.message), |_| Ok(()))?;
            return Err(refusal);
        }
        self.close_operation(&operation, "done", None, |tx| {
            if claim.instance().is_none() { StoredClaim::delete(tx, id) } else { Ok(()) }
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

fn show(device: StoredDevice, inventory: &Inventory, claims: &[StoredClaim]) -> Device {
    let function = inventory.function(device.address);
    let attached = claims.iter().find(|claim| claim.device == device.id);
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
        created_at: device.created_at,
        tags: device.tags,
    }
}
