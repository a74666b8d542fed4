//! How many vGPUs a host's GPUs have and still offer, by profile: as mediated devices and as virtual functions of
//! NVIDIA's vendor-specific VFIO.

use std::collections::{BTreeMap, BTreeSet};

use super::memory::{framebuffer_of, memory_of};
use super::room::Rooms;
use crate::profile_name::own_name;
use crate::{Address, Claim, Function, Inventory, Kind, MdevType, Mechanism, VgpuType};

/// The vGPUs of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VgpuSlots {
    /// How many vGPUs fit: one for each virtual function; for a GPU without, those that exist and those that the type of
    /// which most fit still allows.
    pub total: u64,
    /// How many of them exist, are claimed, or cannot be used.
    pub used: u64,
    /// The profiles, by name.
    pub profiles: Vec<VgpuProfile>,
}

/// A profile of vGPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VgpuProfile {
    /// Its name without the vendor's, `L40S-1Q`; its id if it has no name.
    pub name: String,
    /// Its memory in MiB; 0 if neither the driver nor the name tells it.
    pub framebuffer_mb: u64,
    /// How many can still be created.
    pub available: u64,
}

impl VgpuSlots {
    /// The vGPUs of all GPUs and accelerators that have or offer any, with the detail of [`Host::offers`]; `None` if none
    /// does. Functions in `barred` are not available.
    ///
    /// [`Host::offers`]: crate::Host::offers
    #[must_use]
    pub fn of(inventory: &Inventory, claims: &[Claim], barred: &BTreeSet<Address>) -> Option<Self> {
        let rooms = Rooms::of(inventory, claims);
        let survey = Survey { inventory, claims, barred, rooms };
        let mut found = Found::default();
        for (gpu, parents) in survey.mediated_functions() {
            survey.mediated(gpu, &parents, &mut found);
        }
        for (parent, functions) in survey.vendor_functions() {
            survey.vendor(parent, &functions, &mut found);
        }
        if found.total == 0 {
            return None;
        }
        let profile = |(name, (framebuffer_mb, available)): (String, (u64, u64))| VgpuProfile {
            name,
            framebuffer_mb,
            available,
        };
        let profiles = found.profiles.into_iter().map(profile).collect();
        Some(Self { total: found.total, used: found.used, profiles })
    }
}

#[derive(Default)]
struct Found {
    total: u64,
    used: u64,
    /// Memory and number by name.
    profiles: BTreeMap<String, (u64, u64)>,
}

impl Found {
    fn profile(&mut self, name: &str, framebuffer: u64, available: u64) {
        let entry = self.profiles.entry(own_name(name).to_owned()).or_default();
        entry.0 = entry.0.max(framebuffer);
        entry.1 += available;
    }
}

struct Survey<'a> {
    inventory: &'a Inventory,
    claims: &'a [Claim],
    barred: &'a BTreeSet<Address>,
    rooms: Rooms<'a>,
}

impl Survey<'_> {
    fn is_barred(&self, function: &Function) -> bool {
        let parent = function.physical_function;
        let barred = |address: Address| self.barred.contains(&address);
        barred(function.address) || parent.is_some_and(barred)
    }

    /// Mediated devices of one GPU: its own, or those of its virtual functions.
    fn mediated(&self, gpu: Address, parents: &[&Function], found: &mut Found) {
        let mut left: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for parent in parents {
            let types = parent.detail.as_ref().map_or(&[][..], |detail| &detail.mdev_types);
            let made = count(parent.mdevs.len()) + self.rooms.reserved_at(parent.address);
            let room = |kind: &MdevType| self.rooms.left(parent, kind);
            let most = types.iter().map(room).max().unwrap_or(0);
            // A virtual function has at most one, also while its GPU has no room for it.
            let total = if parent.physical_function.is_some() { 1 } else { made + most };
            let barred = self.is_barred(parent);
            found.total += total;
            found.used += if barred { total } else { made.min(total) };
            for kind in types {
                let name = kind.name.as_deref().unwrap_or(&kind.id);
                let entry = left.entry(name).or_default();
                entry.0 = entry.0.max(memory_of(kind).unwrap_or(0));
                entry.1 += if barred { 0 } else { room(kind) };
                // What all virtual functions offer can be more than their GPU has room for.
                entry.1 = self.rooms.fit_mdev(gpu, kind).map_or(entry.1, |fit| fit.min(entry.1));
            }
        }
        for (name, (framebuffer, left)) in left {
            found.profile(name, framebuffer, left);
        }
    }

    /// The parents of mediated devices, by their GPU.
    fn mediated_functions(&self) -> BTreeMap<Address, Vec<&Function>> {
        let mut all: BTreeMap<Address, Vec<&Function>> = BTreeMap::new();
        for function in self.inventory.functions.values() {
            let types = function.detail.as_ref().is_some_and(|one| !one.mdev_types.is_empty());
            let kind = matches!(function.kind(), Kind::Gpu | Kind::Accelerator);
            if kind && (types || !function.mdevs.is_empty()) {
                let gpu = function.physical_function.unwrap_or(function.address);
                all.entry(gpu).or_default().push(function);
            }
        }
        all
    }

    /// The virtual functions that can become vGPUs, by their GPU.
    fn vendor_functions(&self) -> BTreeMap<Address, Vec<&Function>> {
        let mut all: BTreeMap<Address, Vec<&Function>> = BTreeMap::new();
        for function in self.inventory.functions.values() {
            let offers = function.detail.as_ref().is_some_and(|detail| detail.vgpu.is_some());
            if let Some(parent) = function.physical_function.filter(|_| offers) {
                all.entry(parent).or_default().push(function);
            }
        }
        all
    }

    /// vGPUs on the virtual functions of one GPU.
    fn vendor(&self, parent: Address, functions: &[&Function], found: &mut Found) {
        let is_free = |function: &&&Function| {
            function.vgpu().is_some_and(|vgpu| vgpu.current.is_none())
                && !self.claims.iter().any(|claim| claim.holds(function.address))
                && !self.is_barred(function)
        };
        let free: Vec<&Function> = functions.iter().filter(is_free).copied().collect();
        found.total += count(functions.len());
        found.used += count(functions.len() - free.len());
        let claimed = self.claimed_vgpus(parent);
        claimed.values().for_each(|name| found.profile(name, framebuffer_of(name).unwrap_or(0), 0));
        let types: BTreeMap<u32, &VgpuType> = creatable(functions).collect();
        for (id, kind) in types {
            let offering = free
                .iter()
                .filter(|function| creatable(&[**function]).any(|(other, _)| other == id));
            let offering = count(offering.count());
            let left = self.rooms.fit(parent, kind).map_or(offering, |fit| fit.min(offering));
            found.profile(&kind.name, framebuffer_of(&kind.name).unwrap_or(0), left);
        }
    }

    /// The names of the claimed vGPUs of a GPU, by their virtual function.
    fn claimed_vgpus(&self, gpu: Address) -> BTreeMap<Address, &str> {
        let parts = self.claims.iter().flat_map(|claim| &claim.parts);
        let partitions = parts.filter_map(|part| part.partition.as_ref());
        partitions
            .filter(|partition| partition.parent == gpu)
            .filter_map(|partition| match &partition.how {
                Mechanism::Vgpu { function, name, .. } => Some((*function, name.as_str())),
                Mechanism::Vf { .. } | Mechanism::Mdev { .. } => None,
            })
            .collect()
    }
}

/// The types that these virtual functions can become, by id.
fn creatable<'a>(
    functions: &[&'a Function],
) -> impl Iterator<Item = (u32, &'a VgpuType)> + use<'a> {
    let types = functions.iter().filter_map(|function| function.detail.as_ref()?.vgpu.as_ref());
    let types: Vec<_> = types.flat_map(|vgpu| &vgpu.creatable).collect();
    types.into_iter().map(|kind| (kind.id, kind))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
