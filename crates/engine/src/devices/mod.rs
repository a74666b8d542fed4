//! Registered devices, their health, and the return of unclaimed devices.

mod by_hand;
mod catalog;
mod clear;
mod gpus;
mod health;
mod return_unclaimed;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use model::{Address, Assembly, Code, Kind, Refusal, check_device_name};
use uuid::Uuid;

use crate::claims::Claims;
use crate::consent::{Consent, Named};
use crate::hardware::{Hardware, users};
use crate::journal::Journal;
use crate::lock::lock;
use crate::marks::Marks;
use crate::store::{Durability, Health, Store, StoredClaim, StoredDevice, StoredInstance};
use crate::tags::has_tags;
use crate::vf_counts::VfCounts;
use crate::{AvailableDevice, AvailableFilter, Device, RegisterDevice};
use crate::{owners, refusals, registrations};
use state::{Observed, concerns, show};

/// Registered devices: [`Engine::devices`](crate::Engine::devices). Owns the tables `devices` and `health`; a claim or
/// a VF count that fails marks the health of its functions in its own commit.
pub struct Devices {
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    marks: Arc<Marks>,
    vf_counts: Arc<VfCounts>,
    claims: Arc<Claims>,
}

impl Devices {
    pub(crate) const fn new(
        store: Arc<Store>,
        journal: Arc<Journal>,
        hardware: Arc<Hardware>,
        marks: Arc<Marks>,
        vf_counts: Arc<VfCounts>,
        claims: Arc<Claims>,
    ) -> Self {
        Self { store, journal, hardware, marks, vf_counts, claims }
    }

    /// The functions that can be handed over now.
    ///
    /// # Errors
    /// If the host cannot be read.
    pub fn available(&self, filter: &AvailableFilter) -> Result<Vec<AvailableDevice>, Refusal> {
        let inventory = self.hardware.inventory()?;
        let (claims, health) =
            self.store.read(|from| Ok((StoredClaim::all(from)?, Health::all(from)?)))?;
        let (mut available, mut lost) = (Vec::new(), Vec::new());
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
            if !self.marks.marked(&members)?.is_empty() {
                continue;
            }
            let (vendor, device) = (function.vendor, function.device);
            lost.push(assembly.lost().map(|member| member.address).collect::<Vec<_>>());
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
        // What a claim would refuse is not available: a program, a mount or the host's network uses it.
        let all: BTreeSet<Address> = lost.iter().flatten().copied().collect();
        let used = self.hardware.used(&all.into_iter().collect::<Vec<_>>())?;
        let is_free = |lost: &Vec<Address>| lost.iter().all(|one| !used.contains(one));
        let free = available.into_iter().zip(lost).filter(|(_, lost)| is_free(lost));
        Ok(free.map(|(device, _)| device).collect())
    }

    /// Registers a device.
    ///
    /// # Errors
    /// `invalid_pci_address`, `invalid_name`, `device_not_found`, `not_assignable`, `no_iommu`, `conflict`.
    pub fn register(&self, request: RegisterDevice) -> Result<Device, Refusal> {
        let address: Address = request.address.parse()?;
        let name = request.name.unwrap_or_else(|| default_name(address));
        check_device_name(&name)?;
        let inventory = self.hardware.inventory()?;
        let assembly =
            Assembly::of(&inventory, address).ok_or_else(|| model::no_such_function(address))?;
        // Other obstacles can go away before the device is handed over.
        let never = [Code::NotAssignable, Code::NoIommu];
        let mut obstacles = assembly.obstacles(&inventory).into_iter();
        if let Some(obstacle) = obstacles.find(|obstacle| never.contains(&obstacle.code)) {
            return Err(obstacle);
        }
        let found = self.hardware.as_found(address)?;
        let function =
            inventory.function(address).ok_or_else(|| model::no_such_function(address))?;
        let device = StoredDevice {
            id: Uuid::new_v4(),
            name,
            address,
            kind: function.kind(),
            fingerprint: found.fingerprint,
            tags: request.tags,
            created_at: Timestamp::now(),
        };
        let _allocation = lock(&self.journal.allocation);
        for other in self.store.read(StoredDevice::all)? {
            if other.address == address {
                return Err(registered(&other));
            }
            if other.name == device.name {
                return Err(name_taken(&other));
            }
        }
        self.store.write(Durability::Power, |tx| device.insert(tx))?;
        let observed = self.observe(&[address])?;
        Ok(show(device, &observed))
    }

    /// The registered devices with all these tags.
    ///
    /// # Errors
    /// If the host cannot be read.
    pub fn all(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Device>, Refusal> {
        let devices = self.store.read(StoredDevice::all)?;
        let devices: Vec<StoredDevice> =
            devices.into_iter().filter(|device| has_tags(&device.tags, tags)).collect();
        let addresses: Vec<Address> = devices.iter().map(|device| device.address).collect();
        let observed = self.observe(&addresses)?;
        Ok(devices.into_iter().map(|device| show(device, &observed)).collect())
    }

    /// A registered device by id, name or address.
    ///
    /// # Errors
    /// `not_found`.
    pub fn find(&self, key: &str) -> Result<Device, Refusal> {
        let device = registrations::find(&self.store, key)?;
        let observed = self.observe(&[device.address])?;
        Ok(show(device, &observed))
    }

    /// The names of the registered devices, by id.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn names(&self) -> Result<BTreeMap<Uuid, String>, Refusal> {
        let devices = self.store.read(StoredDevice::all)?;
        Ok(devices.into_iter().map(|device| (device.id, device.name)).collect())
    }

    /// Whether a device is registered with this name, id or address.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn is_registered(&self, key: &str) -> Result<bool, Refusal> {
        match registrations::find(&self.store, key) {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.code == Code::NotFound => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// The address that `key` gives, or that the registration with this name or id has.
    ///
    /// # Errors
    /// `not_found`.
    pub fn address_of(&self, key: &str) -> Result<Address, Refusal> {
        registrations::address_of(&self.store, key)
    }

    /// Reads what the states of these devices are derived from.
    fn observe(&self, devices: &[Address]) -> Result<Observed, Refusal> {
        let mut observed = Observed::of(self.hardware.inventory()?);
        let instances;
        (observed.claims, observed.health, instances) = self.store.read(|from| {
            Ok((StoredClaim::all(from)?, Health::all(from)?, StoredInstance::all(from)?))
        })?;
        for claim in &observed.claims {
            let owner = owners::described_among(&instances, &claim.claim.owner);
            observed.owners.insert(claim.claim.id, owner);
        }
        let assemblies =
            devices.iter().filter_map(|address| Assembly::of(&observed.inventory, *address));
        let all: BTreeSet<Address> = assemblies
            .flat_map(|assembly| assembly.taken().map(|member| member.address).collect::<Vec<_>>())
            .collect();
        // If users or marks cannot be read, the devices are listed anyway.
        if !all.is_empty() {
            let all: Vec<Address> = all.into_iter().collect();
            let holders = self.hardware.host.holders(&all).unwrap_or_default();
            // What every claim evicts, NVIDIA's persistence daemon, does not use a device up.
            let used = users(&holders, Consent::NONE, &Named::default());
            observed.holders =
                holders.into_iter().filter(|holder| used.contains_key(&holder.address)).collect();
            observed.marked = self.marks.marked(&all).unwrap_or_default();
        }
        Ok(observed)
    }

    /// Deletes a registration.
    ///
    /// # Errors
    /// `not_found`, `in_use`.
    pub fn delete(&self, key: &str) -> Result<(), Refusal> {
        let _allocation = lock(&self.journal.allocation);
        let device = registrations::find(&self.store, key)?;
        let claims = self.store.read(StoredClaim::all)?;
        if let Some(claim) = claims.iter().find(|claim| claim.device == Some(device.id)) {
            let (instances, health) =
                self.store.read(|from| Ok((StoredInstance::all(from)?, Health::all(from)?)))?;
            let why = refusals::claimed(claim, &instances, &health);
            let message = format!("the device {:?} {}", device.name, why.message);
            return Err(Refusal { message, ..why });
        }
        self.store.write(Durability::Power, |tx| StoredDevice::delete(tx, device.id))
    }
}

fn default_name(address: Address) -> String {
    format!("pci-{}", address.to_string().replace([':', '.'], "-"))
}

fn name_taken(other: &StoredDevice) -> Refusal {
    Refusal::new(
        Code::Conflict,
        format!("the name {:?} is taken: {} is registered with it", other.name, other.address),
        "choose another name",
    )
}

fn registered(other: &StoredDevice) -> Refusal {
    Refusal::new(
        Code::Conflict,
        format!("{} is already registered as {:?}", other.address, other.name),
        format!("use that name, or run `handover device rm {}` first", other.name),
    )
}
