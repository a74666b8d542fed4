//! The room that GPUs have for more vGPUs. Their drivers count those that exist; claims also reserve vGPUs that do not
//! exist yet, and the driver cannot know of those.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::memory::{framebuffer_of, is_on_mig, memory_of, memory_of_board};
use crate::{Address, Claim, Function, Inventory, MdevType, Mechanism, Partition, VgpuType};

/// The driver whose mediated devices on one GPU all have one size, unless its mixed-size mode is on.
const EQUAL_SIZE_DRIVER: &str = "nvidia";

/// The room of all GPUs, with what claims have reserved of it.
#[derive(Clone, Debug)]
pub struct Rooms<'a> {
    inventory: &'a Inventory,
    gpus: BTreeMap<Address, Gpu<'a>>,
}

/// One GPU: the functions that offer or have vGPUs, and the vGPUs that are reserved and do not exist.
#[derive(Clone, Debug, Default)]
struct Gpu<'a> {
    functions: Vec<&'a Function>,
    reserved: Vec<Reserved>,
    /// Its memory for more vGPUs besides those that exist, in MiB, if that is known.
    free: Option<u64>,
    sizes: Sizes,
}

/// Whether all vGPUs of a GPU must have the same size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sizes {
    /// They can differ.
    #[default]
    Mixed,
    /// By default they must be equal; no vGPU exists that would show it.
    EqualByDefault,
    /// They must be equal.
    Equal,
}

#[derive(Clone, Debug)]
struct Reserved {
    /// The parent of the mediated device, or the virtual function that becomes a vGPU.
    at: Address,
    size: Size,
    /// Whether the same request asks for it, and not another claim.
    same_request: bool,
}

/// What decides whether a vGPU fits beside others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Size {
    type_id: String,
    /// In MiB; `None` if it is not known.
    memory: Option<u64>,
    /// An instance of a GPU in MIG mode has its own memory.
    on_mig: bool,
}

impl Size {
    fn mdev(kind: &MdevType) -> Self {
        let name = kind.name.as_deref().unwrap_or(&kind.id);
        let memory = memory_of(kind).filter(|memory| *memory > 0);
        Self { type_id: kind.id.clone(), memory, on_mig: is_on_mig(name) }
    }

    fn vgpu(id: u32, name: &str) -> Self {
        Self { type_id: id.to_string(), memory: framebuffer_of(name), on_mig: is_on_mig(name) }
    }

    /// Whether both can exist on a GPU whose vGPUs have one size.
    fn equals(&self, other: &Self) -> bool {
        match (self.memory, other.memory) {
            (Some(one), Some(other)) => one == other,
            _ => self.type_id == other.type_id,
        }
    }
}

impl<'a> Rooms<'a> {
    /// The room of the GPUs in an inventory with the detail of [`Host::offers`], besides what these claims reserve.
    ///
    /// [`Host::offers`]: crate::Host::offers
    #[must_use]
    pub fn of<'b>(inventory: &'a Inventory, claims: impl IntoIterator<Item = &'b Claim>) -> Self {
        let claims: Vec<&Claim> = claims.into_iter().collect();
        let mut gpus: BTreeMap<Address, Gpu<'a>> = BTreeMap::new();
        for function in inventory.functions.values() {
            let detail = function.detail.as_ref();
            if detail.is_some_and(|one| !one.mdev_types.is_empty() || one.vgpu.is_some()) {
                let gpu = function.physical_function.unwrap_or(function.address);
                gpus.entry(gpu).or_default().functions.push(function);
            }
        }
        let names = claimed_names(&claims);
        for (address, gpu) in &mut gpus {
            let driver = inventory.function(*address).and_then(|one| one.driver.as_deref());
            gpu.survey(*address, driver, &names);
        }
        let mut rooms = Self { inventory, gpus };
        let partitions = claims.iter().flat_map(|claim| &claim.parts);
        partitions
            .filter_map(|part| part.partition.as_ref())
            .for_each(|partition| rooms.reserve(partition, false));
        rooms
    }

    /// Counts one more vGPU of the same request, if it does not exist yet. If only a default says that its size must be
    /// that of the others, the driver has the last word: it refuses at once, and the request is rolled back.
    pub fn ask(&mut self, partition: &Partition) {
        self.reserve(partition, true);
    }

    fn reserve(&mut self, partition: &Partition, same_request: bool) {
        let Some(at) = self.to_be_created(partition) else { return };
        let gpu = self.gpu_of(at);
        let Some(gpu) = self.gpus.get_mut(&gpu) else { return };
        let size = gpu.size(partition);
        gpu.reserved.extend(size.map(|size| Reserved { at, size, same_request }));
    }

    /// Whether there is room for a vGPU that does not exist yet; also if that is not known.
    #[must_use]
    pub fn has_room(&self, partition: &Partition) -> bool {
        let Some(at) = self.to_be_created(partition) else { return true };
        let Some(function) = self.inventory.function(at) else { return true };
        let Some(detail) = &function.detail else { return true };
        match &partition.how {
            Mechanism::Mdev { type_id, .. } => {
                let kind = detail.mdev_types.iter().find(|kind| kind.id == *type_id);
                kind.is_none_or(|kind| self.left(function, kind) > 0)
            }
            Mechanism::Vgpu { type_id, name, .. } => {
                self.fits(function, &VgpuType { id: *type_id, name: name.clone() })
            }
            Mechanism::Vf { .. } => true,
        }
    }

    /// How many more mediated devices of this type the parent has room for.
    #[must_use]
    pub fn left(&self, parent: &Function, kind: &MdevType) -> u64 {
        let offered = u64::from(kind.available.unwrap_or(0));
        let Some(gpu) = self.gpus.get(&self.gpu_of(parent.address)) else { return offered };
        let here = || gpu.reserved.iter().filter(|one| one.at == parent.address);
        // A virtual function has at most one.
        if parent.physical_function.is_some() && here().next().is_some() {
            return 0;
        }
        let size = Size::mdev(kind);
        let unknown = size.memory.is_none() || here().any(|one| one.size.memory.is_none());
        let same = here().filter(|one| unknown || one.size.type_id == size.type_id).count();
        let left = offered.saturating_sub(count(same));
        gpu.fit(&size).map_or(left, |fit| fit.min(left))
    }

    /// Whether a virtual function can become a vGPU of this type beside those that are reserved.
    #[must_use]
    pub fn fits(&self, function: &Function, kind: &VgpuType) -> bool {
        let Some(gpu) = self.gpus.get(&self.gpu_of(function.address)) else { return true };
        let taken = gpu.reserved.iter().any(|one| one.at == function.address);
        !taken && gpu.fit(&Size::vgpu(kind.id, &kind.name)) != Some(0)
    }

    /// How many more vGPUs of this type the memory of a GPU allows; `None` if that is not known or does not matter.
    pub(super) fn fit(&self, gpu: Address, kind: &VgpuType) -> Option<u64> {
        self.gpus.get(&gpu)?.fit(&Size::vgpu(kind.id, &kind.name))
    }

    /// As [`fit`](Self::fit), for mediated devices.
    pub(super) fn fit_mdev(&self, gpu: Address, kind: &MdevType) -> Option<u64> {
        self.gpus.get(&gpu)?.fit(&Size::mdev(kind))
    }

    /// How many vGPUs of this GPU are reserved and do not exist.
    #[must_use]
    pub fn reserved_on(&self, gpu: Address) -> usize {
        self.gpus.get(&gpu).map_or(0, |gpu| gpu.reserved.len())
    }

    /// How many mediated devices of this parent are reserved and do not exist.
    pub(super) fn reserved_at(&self, parent: Address) -> u64 {
        let gpu = self.gpus.get(&self.gpu_of(parent));
        let reserved = gpu.map_or(&[][..], |gpu| gpu.reserved.as_slice());
        count(reserved.iter().filter(|one| one.at == parent).count())
    }

    fn gpu_of(&self, address: Address) -> Address {
        self.inventory
            .function(address)
            .and_then(|function| function.physical_function)
            .unwrap_or(address)
    }

    /// Where a vGPU is created; `None` if it exists already, or is no vGPU.
    fn to_be_created(&self, partition: &Partition) -> Option<Address> {
        match &partition.how {
            Mechanism::Mdev { uuid, .. } => {
                let parent = self.inventory.function(partition.parent)?;
                let exists = *uuid != Uuid::nil()
                    && parent.mdevs.iter().any(|existing| existing.uuid == *uuid);
                (!exists).then_some(partition.parent)
            }
            Mechanism::Vgpu { function, .. } => {
                let current = self.inventory.function(*function)?.vgpu().and_then(|it| it.current);
                current.is_none().then_some(*function)
            }
            Mechanism::Vf { .. } => None,
        }
    }
}

impl Gpu<'_> {
    /// Reads how much memory is free, and whether sizes can be mixed.
    fn survey(&mut self, own: Address, driver: Option<&str>, names: &BTreeMap<u32, String>) {
        let existing = self.existing(names);
        let listed = self.listed();
        let offered: Vec<&Size> =
            listed.iter().filter(|(_, now)| *now > 0).map(|(size, _)| size).collect();
        let divides_itself = self.functions.iter().any(|function| function.address == own);
        self.free = if divides_itself {
            // The driver divides what is free by the size of each type.
            listed.iter().filter_map(|(size, now)| Some(size.time_sliced()? * now)).max()
        } else {
            self.free_for_functions(&existing, &listed)
        };
        let sizes: Option<Vec<&Size>> = existing.iter().map(Option::as_ref).collect();
        let by_default = driver == Some(EQUAL_SIZE_DRIVER)
            || self.functions.iter().any(|function| function.vgpu().is_some());
        let known = sizes.filter(|sizes| !sizes.is_empty());
        self.sizes = match known {
            _ if !by_default => Sizes::Mixed,
            None => Sizes::EqualByDefault,
            Some(sizes) => {
                let differs = |one: &Size| sizes.iter().any(|there| !there.equals(one));
                let mut all = sizes.iter().copied().chain(offered);
                // A second size is there, or is offered beside the first.
                if all.any(differs) { Sizes::Mixed } else { Sizes::Equal }
            }
        };
    }

    /// The free memory of a GPU whose vGPUs are on virtual functions, which do not tell it.
    fn free_for_functions(&self, existing: &[Option<Size>], listed: &[(Size, u64)]) -> Option<u64> {
        let used = existing.iter().map(|size| size.as_ref()?.time_sliced_or_none());
        let used: Option<u64> = used.sum();
        let largest = |now: bool| {
            let sizes = listed.iter().filter(|(_, available)| !now || *available > 0);
            sizes.filter_map(|(size, _)| size.time_sliced()).max()
        };
        // The largest type is the whole GPU, if it is listed: for mediated devices it always is.
        let whole =
            if existing.is_empty() || self.has_mdev_types() { largest(false) } else { None };
        let board = self.board();
        let total = match (whole, board) {
            (Some(whole), Some(board)) => Some(whole.min(board)),
            (whole, board) => whole.or(board),
        };
        let free = total?.saturating_sub(used?);
        Some(free.max(largest(true).unwrap_or(0)))
    }

    fn has_mdev_types(&self) -> bool {
        let details = self.functions.iter().filter_map(|function| function.detail.as_ref());
        details.into_iter().any(|detail| !detail.mdev_types.is_empty())
    }

    /// The types of all functions, each with how many its function can still create.
    fn listed(&self) -> Vec<(Size, u64)> {
        let mut listed = Vec::new();
        for detail in self.functions.iter().filter_map(|function| function.detail.as_ref()) {
            let mdevs = detail.mdev_types.iter();
            listed.extend(
                mdevs.map(|kind| (Size::mdev(kind), u64::from(kind.available.unwrap_or(0)))),
            );
            let types = detail.vgpu.iter().flat_map(|vgpu| &vgpu.creatable);
            listed.extend(types.map(|kind| (Size::vgpu(kind.id, &kind.name), 1)));
        }
        listed
    }

    /// The vGPUs that exist; `None` for one whose type is not known.
    fn existing(&self, names: &BTreeMap<u32, String>) -> Vec<Option<Size>> {
        let mut existing = Vec::new();
        for function in &self.functions {
            for mdev in &function.mdevs {
                existing.push(mdev.type_id.as_deref().and_then(|id| self.mdev_size(id)));
            }
            if let Some(current) = function.vgpu().and_then(|vgpu| vgpu.current) {
                let name = self.name_of(current).or_else(|| names.get(&current).cloned());
                existing.push(name.map(|name| Size::vgpu(current, &name)));
            }
        }
        existing
    }

    fn mdev_size(&self, type_id: &str) -> Option<Size> {
        let details = self.functions.iter().filter_map(|function| function.detail.as_ref());
        let mut types = details.flat_map(|detail| &detail.mdev_types);
        types.find(|kind| kind.id == type_id).map(Size::mdev)
    }

    /// The name of a type that one of the functions lists.
    fn name_of(&self, id: u32) -> Option<String> {
        let mut types = self.functions.iter().filter_map(|function| function.vgpu());
        types.find_map(|vgpu| {
            vgpu.creatable.iter().find(|kind| kind.id == id).map(|kind| kind.name.clone())
        })
    }

    fn board(&self) -> Option<u64> {
        let mut names = self.functions.iter().filter_map(|function| function.detail.as_ref());
        names.find_map(|detail| {
            let mdevs = detail.mdev_types.iter().filter_map(|kind| kind.name.as_deref());
            let types = detail.vgpu.iter().flat_map(|vgpu| &vgpu.creatable);
            mdevs.chain(types.map(|kind| kind.name.as_str())).find_map(memory_of_board)
        })
    }

    fn size(&self, partition: &Partition) -> Option<Size> {
        match &partition.how {
            Mechanism::Mdev { type_id, .. } => Some(self.mdev_size(type_id).unwrap_or(Size {
                type_id: type_id.clone(),
                memory: None,
                on_mig: false,
            })),
            Mechanism::Vgpu { type_id, name, .. } => Some(Size::vgpu(*type_id, name)),
            Mechanism::Vf { .. } => None,
        }
    }

    fn fit(&self, size: &Size) -> Option<u64> {
        if size.on_mig {
            return None;
        }
        let reserved = self.reserved.iter().filter(|one| !one.size.on_mig);
        let excludes = |one: &Reserved| match self.sizes {
            Sizes::Mixed => false,
            Sizes::EqualByDefault => !one.same_request && !one.size.equals(size),
            Sizes::Equal => !one.size.equals(size),
        };
        if reserved.clone().any(excludes) {
            return Some(0);
        }
        let taken: u64 = reserved.filter_map(|one| one.size.memory).sum();
        self.free?.saturating_sub(taken).checked_div(size.memory?)
    }
}

impl Size {
    /// Its share of the memory that all vGPUs of a GPU share.
    const fn time_sliced(&self) -> Option<u64> {
        if self.on_mig { None } else { self.memory }
    }

    /// As [`time_sliced`](Self::time_sliced); nothing for one on an instance of MIG.
    const fn time_sliced_or_none(&self) -> Option<u64> {
        if self.on_mig { Some(0) } else { self.memory }
    }
}

/// The names of types in claims: functions no longer list the type that they are.
fn claimed_names(claims: &[&Claim]) -> BTreeMap<u32, String> {
    let partitions = claims.iter().flat_map(|claim| &claim.parts);
    let partitions = partitions.filter_map(|part| part.partition.as_ref());
    partitions
        .filter_map(|partition| match &partition.how {
            Mechanism::Vgpu { type_id, name, .. } => Some((*type_id, name.clone())),
            Mechanism::Vf { .. } | Mechanism::Mdev { .. } => None,
        })
        .collect()
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
