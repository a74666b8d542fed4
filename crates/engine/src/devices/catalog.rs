//! The devices of the resources that the devices file names.

use std::collections::BTreeSet;

use model::{Address, Assembly, Refusal};

use super::Devices;
use crate::store::StoredClaim;
use crate::{DeviceState, PciResource};

impl Devices {
    /// The resources of the devices file, by name; none without one.
    pub(crate) fn pci_resources(&self) -> Result<Vec<PciResource>, Refusal> {
        let catalog = self.claims.catalog();
        if catalog.lines.is_empty() {
            return Ok(Vec::new());
        }
        let resources = catalog.claimable(&self.hardware.inventory()?);
        let all: BTreeSet<Address> = resources.values().flatten().copied().collect();
        let observed = self.observe(&all.into_iter().collect::<Vec<_>>())?;
        let claims = self.store.read(StoredClaim::all)?;
        let is_available = |address: Address| {
            let assembly = Assembly::of(&observed.inventory, address);
            observed.state(address).0 == DeviceState::Free
                && assembly.is_some_and(|all| all.obstacles(&observed.inventory).is_empty())
        };
        let resource = |(name, devices): (String, Vec<Address>)| {
            let owners = claims
                .iter()
                .filter(|stored| devices.iter().any(|device| stored.claim.holds(*device)));
            PciResource {
                name,
                total: devices.len(),
                claimed_by: owners.map(|stored| stored.claim.owner.to_string()).collect(),
                allocated: devices
                    .iter()
                    .filter(|device| claims.iter().any(|stored| stored.claim.holds(**device)))
                    .count(),
                available: devices.iter().filter(|device| is_available(**device)).count(),
            }
        };
        Ok(resources.into_iter().map(resource).collect())
    }
}
