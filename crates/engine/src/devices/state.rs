//! Derives the state of a registered device: free, claimed, in use, or in need of manual attention.

use std::collections::BTreeMap;

use model::{Address, Assembly, Claim, ClaimState, Holder, Inventory, Refusal};
use uuid::Uuid;

use crate::store::{Health, StoredClaim, StoredDevice};
use crate::{Device, DeviceState, HealthState};

/// The data that the states of devices are derived from.
pub struct Observed {
    pub inventory: Inventory,
    pub claims: Vec<StoredClaim>,
    /// The owner of each claim, in words.
    pub owners: BTreeMap<Uuid, String>,
    pub health: Vec<Health>,
    pub holders: Vec<Holder>,
    /// Functions with a mark that no claim of this store has, each with its refusal.
    pub marked: BTreeMap<Address, Refusal>,
}

impl Observed {
    pub const fn of(inventory: Inventory) -> Self {
        Self {
            inventory,
            claims: Vec::new(),
            owners: BTreeMap::new(),
            health: Vec::new(),
            holders: Vec::new(),
            marked: BTreeMap::new(),
        }
    }

    /// The state of the device with this function, and why it is not free.
    pub fn state(&self, address: Address) -> (DeviceState, Option<String>) {
        let assembly = Assembly::of(&self.inventory, address);
        let mut functions = vec![address];
        functions.extend(assembly.iter().flat_map(|all| all.taken().map(|member| member.address)));
        if let Some(health) = self.health.iter().find(|h| functions.contains(&h.address)) {
            let state = match health.state {
                HealthState::Wedged => DeviceState::Wedged,
                HealthState::Quarantined => DeviceState::Quarantined,
            };
            return (state, Some(format!("{} (since {})", health.reason, health.since)));
        }
        if assembly.is_none() {
            return (DeviceState::Absent, Some("it is not present on the host".into()));
        }
        let claim = self.claims.iter().find(|claim| concerns(&claim.claim, &functions));
        if let Some(claim) = claim {
            let owner = self.owners.get(&claim.claim.id).cloned();
            let owner = owner.unwrap_or_else(|| claim.claim.owner.to_string());
            if claim.claim.state == ClaimState::Wedged {
                let why = format!("the claim of {owner} could not be restored earlier");
                return (DeviceState::Wedged, Some(why));
            }
            return (DeviceState::Claimed, Some(format!("by {owner}")));
        }
        if let Some(holder) = self.holders.iter().find(|h| functions.contains(&h.address)) {
            return (DeviceState::Foreign, Some(format!("{} ({})", holder.user, holder.by)));
        }
        if let Some(why) = functions.iter().find_map(|address| self.marked.get(address)) {
            return (DeviceState::Foreign, Some(why.message.clone()));
        }
        (DeviceState::Free, None)
    }
}

/// Whether a claim covers one of these functions, or a partition of one.
pub fn concerns(claim: &Claim, functions: &[Address]) -> bool {
    functions.iter().any(|address| claim.covers(*address) || claim.pins(*address))
}

pub fn show(device: StoredDevice, observed: &Observed) -> Device {
    let function = observed.inventory.function(device.address);
    let attached = observed.claims.iter().find(|claim| claim.device == Some(device.id));
    let (state, state_reason) = observed.state(device.address);
    Device {
        id: device.id,
        name: device.name,
        address: device.address,
        kind: device.kind,
        vendor: device.fingerprint.vendor,
        device: device.fingerprint.device,
        title: function.map(model::Function::title),
        iommu_group: function.and_then(|function| function.iommu_group),
        bound_to_vfio: function.is_some_and(model::Function::on_vfio),
        attached_to: attached.and_then(StoredClaim::instance),
        state,
        state_reason,
        created_at: device.created_at,
        tags: device.tags,
    }
}
