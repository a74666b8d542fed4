//! How many vGPUs a host's GPUs have and still offer, by profile: as mediated devices and as virtual functions of
//! NVIDIA's vendor-specific VFIO.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Address, Claim, Function, Inventory, Kind, MdevType, Mechanism};

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

/// The memory of GPUs with vGPUs on virtual functions, in GiB, by the family of their profiles (NVIDIA, "Virtual GPU
/// Types for Supported GPUs"): the driver offers no file with it.
const BOARDS: [(&str, u64); 24] = [
    ("A2", 16),
    ("A10", 24),
    ("A16", 16),
    ("A30", 24),
    ("A40", 48),
    ("A100", 40),
    ("A100D", 80),
    ("A800", 40),
    ("A800D", 80),
    ("H20", 96),
    ("H100", 80),
    ("H100XM", 80),
    ("H200X", 141),
    ("L2", 24),
    ("L4", 24),
    ("L20", 48),
    ("L40", 48),
    ("L40S", 48),
    ("RTX5000-Ada", 32),
    ("RTX5880-Ada", 48),
    ("RTX6000-Ada", 48),
    ("RTXA5000", 24),
    ("RTXA5500", 24),
    ("RTXA6000", 48),
];

impl VgpuSlots {
    /// The vGPUs of all GPUs and accelerators that have or offer any, with the detail of [`Host::offers`]; `None` if none
    /// does. Functions in `barred` are not available.
    ///
    /// [`Host::offers`]: crate::Host::offers
    #[must_use]
    pub fn of(inventory: &Inventory, claims: &[Claim], barred: &BTreeSet<Address>) -> Option<Self> {
        let survey = Survey { inventory, claims, barred };
        let mut found = Found::default();
        for function in inventory.functions.values() {
            if matches!(function.kind(), Kind::Gpu | Kind::Accelerator) {
                survey.mediated(function, &mut found);
            }
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
}

impl Survey<'_> {
    fn is_barred(&self, function: &Function) -> bool {
        let parent = function.physical_function;
        let barred = |address: Address| self.barred.contains(&address);
        barred(function.address) || parent.is_some_and(barred)
    }

    /// Mediated devices of one parent.
    fn mediated(&self, parent: &Function, found: &mut Found) {
        let types: &[MdevType] =
            parent.detail.as_ref().map_or(&[], |detail| detail.mdev_types.as_slice());
        if types.is_empty() && parent.mdevs.is_empty() {
            return;
        }
        let existing = count(parent.mdevs.len());
        let reserved = self.claims.iter().flat_map(|claim| &claim.parts).filter(|part| {
            let uuid = part.partition.as_ref().and_then(crate::Partition::mdev);
            part.head == parent.address
                && uuid.is_some_and(|uuid| !parent.mdevs.iter().any(|mdev| mdev.uuid == uuid))
        });
        let reserved = count(reserved.count());
        let most = types.iter().filter_map(|kind| kind.available).max().unwrap_or(0);
        // A virtual function has at most one, also while its GPU has no room for it.
        let total = match parent.physical_function {
            Some(_) => 1,
            None => existing + u64::from(most),
        };
        let barred = self.is_barred(parent);
        found.total += total;
        found.used += if barred { total } else { (existing + reserved).min(total) };
        for kind in types {
            let name = kind.name.as_deref().unwrap_or(&kind.id);
            let described = kind.description.as_deref().and_then(framebuffer_in);
            let framebuffer = described.or_else(|| framebuffer_of(name)).unwrap_or(0);
            let left = u64::from(kind.available.unwrap_or(0)).saturating_sub(reserved);
            found.profile(name, framebuffer, if barred { 0 } else { left });
        }
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
        let claimed = self.claimed_vgpus(parent);
        let mut free = Vec::new();
        let mut used_memory = Some(0u64);
        let names: BTreeMap<u32, &str> = creatable(functions).collect();
        for function in functions {
            let current = function.detail.as_ref().and_then(|detail| detail.vgpu.as_ref()?.current);
            let name = claimed.get(&function.address).copied();
            let name = name.or_else(|| current.and_then(|id| names.get(&id).copied()));
            let taken = self.claims.iter().any(|claim| claim.holds(function.address));
            if current.is_some() || taken {
                let memory = name.map_or(Some(0).filter(|_| current.is_none()), framebuffer_of);
                used_memory = used_memory.zip(memory).map(|(sum, one)| sum + one);
            } else if !self.is_barred(function) {
                free.push(*function);
            }
        }
        found.total += count(functions.len());
        found.used += count(functions.len() - free.len());
        claimed.values().for_each(|name| found.profile(name, framebuffer_of(name).unwrap_or(0), 0));
        let largest = creatable(functions).filter_map(|(_, name)| framebuffer_of(name)).max();
        for (id, name) in names {
            let framebuffer = framebuffer_of(name).unwrap_or(0);
            let offering = free
                .iter()
                .filter(|function| creatable(&[**function]).any(|(other, _)| other == id));
            let offering = count(offering.count());
            let untouched = largest.filter(|_| used_memory == Some(0));
            let room = memory_of_board(name).or(untouched).zip(used_memory);
            let fit = room
                .map(|(memory, used)| memory.saturating_sub(used))
                .and_then(|left| left.checked_div(framebuffer));
            let left =
                if is_on_mig(name) { offering } else { fit.unwrap_or(offering).min(offering) };
            found.profile(name, framebuffer, left);
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
fn creatable<'a>(functions: &[&'a Function]) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
    let types = functions.iter().filter_map(|function| function.detail.as_ref()?.vgpu.as_ref());
    let types: Vec<_> = types.flat_map(|vgpu| &vgpu.creatable).collect();
    types.into_iter().map(|kind| (kind.id, kind.name.as_str()))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The name without the vendor's: requests accept both.
fn own_name(name: &str) -> &str {
    name.rsplit(' ').next().unwrap_or(name)
}

/// The memory in a description such as `num_heads=4, framebuffer=1024M`, in MiB.
fn framebuffer_in(description: &str) -> Option<u64> {
    let (_, rest) = description.split_once("framebuffer=")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    let number: u64 = number.parse().ok()?;
    if unit.starts_with('G') { number.checked_mul(1024) } else { Some(number) }
}

/// The memory in NVIDIA's name of a profile, in MiB: `L40S-4Q` has 4 GiB, `M60-0Q` has 512 MiB.
fn framebuffer_of(name: &str) -> Option<u64> {
    let (_, size) = own_name(name).rsplit_once('-')?;
    let end = size.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, series) = size.split_at(end);
    let number: u64 = number.parse().ok().filter(|_| series.starts_with(char::is_uppercase))?;
    if number == 0 { Some(512) } else { number.checked_mul(1024) }
}

/// Whether a profile is for a GPU in MIG mode, whose instances each have their own memory: `A100-1-5C`.
fn is_on_mig(name: &str) -> bool {
    let family = own_name(name).rsplit_once('-').map_or("", |(family, _)| family);
    family.rsplit_once('-').is_some_and(|(_, slices)| slices.parse::<u8>().is_ok())
}

/// The memory of the GPU that offers this profile, in MiB, if it is known.
fn memory_of_board(name: &str) -> Option<u64> {
    let (family, _) = own_name(name).rsplit_once('-')?;
    let board = BOARDS.iter().find(|(known, _)| *known == family);
    board.map(|(_, memory)| memory * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_profile() {
        for (name, memory) in [
            ("NVIDIA L40S-1Q", Some(1024)),
            ("GRID T4-2B4", Some(2048)),
            ("M60-0Q", Some(512)),
            ("NVIDIA A100-1-5C", Some(5120)),
            ("i915-GVTg_V5_4", None),
            ("L40S", None),
            ("L40S-", None),
            ("L40S-Q", None),
            ("L40S-99999999999999999999Q", None),
        ] {
            assert_eq!(framebuffer_of(name), memory, "{name}");
        }
        assert_eq!(
            framebuffer_in("num_heads=4, frl_config=60, framebuffer=8192M, x=y"),
            Some(8192)
        );
        assert_eq!(framebuffer_in("framebuffer=2G"), Some(2048));
        assert_eq!(framebuffer_in("low_gm_size: 128MB"), None);
        assert!(is_on_mig("NVIDIA A100-1-5C") && !is_on_mig("NVIDIA L40S-1Q"));
    }

    #[test]
    fn each_board_is_listed_once() {
        let names: BTreeSet<&str> = BOARDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), BOARDS.len());
    }
}
