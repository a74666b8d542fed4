//! The GPUs that can be handed over as a whole, registered or not, and the vGPUs that they have and offer.

use std::collections::BTreeSet;

use model::choose::{Want, needs_detail};
use model::{Address, Assembly, Claim, Code, Inventory, Kind, Refusal, VgpuSlots};

use super::{Devices, default_name};
use crate::claims::choose::profile;
use crate::store::{Health, StoredClaim, StoredDevice};
use crate::{DeviceState, WholeGpu};

impl Devices {
    /// The GPUs that can be handed over as a whole, by address.
    pub(crate) fn whole_gpus(&self) -> Result<Vec<WholeGpu>, Refusal> {
        let inventory = self.hardware.inventory()?;
        let registered = self.store.read(StoredDevice::all)?;
        let mut addresses: BTreeSet<Address> = heads(&inventory).collect();
        let gpus = registered.iter().filter(|device| device.kind == Kind::Gpu);
        addresses.extend(gpus.map(|device| device.address));
        let addresses: Vec<Address> = addresses.into_iter().collect();
        let observed = self.observe(&addresses)?;
        let gpu = |address: Address| {
            let device = registered.iter().find(|device| device.address == address);
            let (state, _) = observed.state(address);
            let assembly = Assembly::of(&observed.inventory, address);
            let unobstructed =
                assembly.is_some_and(|all| all.obstacles(&observed.inventory).is_empty());
            WholeGpu {
                name: device.map_or_else(|| default_name(address), |device| device.name.clone()),
                address,
                available: state == DeviceState::Free && unobstructed,
            }
        };
        Ok(addresses.into_iter().map(gpu).collect())
    }

    /// The vGPUs of all GPUs; `None` if no GPU has or offers any.
    pub(crate) fn vgpus(&self) -> Result<Option<VgpuSlots>, Refusal> {
        let mut inventory = self.hardware.inventory()?;
        let any: Want = profile("any");
        let may_offer = needs_detail(&inventory, &[any], &std::collections::BTreeMap::new());
        let may_offer: Vec<Address> = may_offer
            .into_iter()
            .filter(|address| {
                let function = inventory.function(*address);
                function.is_some_and(|one| matches!(one.kind(), Kind::Gpu | Kind::Accelerator))
            })
            .collect();
        if !may_offer.is_empty() {
            self.hardware.host.offers(&mut inventory, &may_offer);
        }
        let (claims, health) =
            self.store.read(|from| Ok((StoredClaim::all(from)?, Health::all(from)?)))?;
        let claims: Vec<Claim> = claims.into_iter().map(|stored| stored.claim).collect();
        let barred = health.into_iter().map(|health| health.address).collect();
        Ok(VgpuSlots::of(&inventory, &claims, &barred))
    }
}

/// The display functions that can be handed over at some time: what blocks them now can go away.
fn heads(inventory: &Inventory) -> impl Iterator<Item = Address> {
    let never = [Code::NotAssignable, Code::NoIommu];
    let gpus = inventory
        .functions
        .values()
        .filter(|function| function.kind() == Kind::Gpu && function.physical_function.is_none())
        .filter(|function| !function.is_management_display());
    gpus.filter(move |gpu| {
        let assembly = Assembly::of(inventory, gpu.address);
        let obstacles = assembly.map(|assembly| assembly.obstacles(inventory));
        obstacles.is_some_and(|all| all.iter().all(|obstacle| !never.contains(&obstacle.code)))
    })
    .map(|gpu| gpu.address)
}
