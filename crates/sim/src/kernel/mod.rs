//! The kernel's rules for hand-overs, for one boot. Mutable state is here; the rules are in the submodules.

mod compare;
mod desktop;
mod drivers;
mod errno;
mod listing;
mod mdev;
mod netlink;
mod nodes;
mod reset;
mod sriov;
mod step;
mod users;
mod vgpu;

use std::collections::{BTreeMap, BTreeSet};

use model::boot_list::BootListEntry;
use model::{
    Address, Inventory, Kind, LinkBaseline, Mark, MdevDefinition, NodeAccess, PowerControl,
    VfSettings, is_vfio,
};
use uuid::Uuid;

use crate::hardware::Hardware;

pub(crate) use errno::*;
pub(crate) use step::errors;
pub(crate) use users::Use;

/// The link of every device at boot: sixteen lanes of 16 GT/s.
const LINK: LinkBaseline = LinkBaseline { speed: 160, width: 16 };

/// The mutable state of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionState {
    /// The bound driver.
    pub driver: Option<String>,
    /// `driver_override`.
    pub driver_override: Option<String>,
    /// `power/control`.
    pub power: PowerControl,
    /// Persistence mode, while a GPU is bound to NVIDIA's driver.
    pub persistence: Option<bool>,
    /// `sriov_drivers_autoprobe` of a physical function.
    pub autoprobe: Option<bool>,
    /// The settings of a virtual function.
    pub settings: Option<VfSettings>,
    /// `nvidia/current_vgpu_type`, while a virtual function is bound to the vendor's driver.
    pub vgpu: Option<u32>,
    /// Its mark.
    pub mark: Option<Mark>,
}

/// A mediated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MdevState {
    /// Its parent.
    pub parent: Address,
    /// Its type's id.
    pub type_id: String,
    /// The written attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A performed reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetDone {
    /// All affected functions.
    pub hit: Vec<Address>,
    /// Machines that had one of them open.
    pub disturbed: BTreeSet<Uuid>,
}

/// The result of a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    #[default]
    Well,
    Silent,
    Slower,
}

/// The simulated kernel: one boot.
pub(crate) struct Kernel {
    pub(crate) hardware: Hardware,
    /// Each function that can exist, including virtual ones, with its native driver.
    pub(crate) known: Inventory,
    /// The existing functions.
    pub(crate) functions: BTreeMap<Address, FunctionState>,
    pub(crate) vf_counts: BTreeMap<Address, u16>,
    pub(crate) mdevs: BTreeMap<Uuid, MdevState>,
    /// Their IOMMU groups.
    pub(crate) mdev_groups: BTreeMap<Uuid, u32>,
    /// mdevctl's definitions, which are files and survive a reboot.
    pub(crate) definitions: BTreeMap<Uuid, MdevDefinition>,
    /// The boot list, also a file.
    pub(crate) boot_list: BTreeMap<Address, BootListEntry>,
    pub(crate) nodes: BTreeMap<u32, NodeAccess>,
    pub(crate) device_nodes: BTreeMap<Address, NodeAccess>,
    pub(crate) units: BTreeMap<String, bool>,
    pub(crate) modules: BTreeSet<String>,
    /// Virtual consoles, and whether they are drawn on the desktop's card.
    pub(crate) consoles: BTreeMap<u32, bool>,
    /// Framebuffers of the firmware, and whether they have their driver.
    pub(crate) framebuffers: BTreeMap<String, bool>,
    /// Modules on the driver of the desktop's card, and whether they are loaded.
    pub(crate) card_modules: BTreeMap<String, bool>,
    /// The sets of GPUs that Fabric Manager tells.
    pub(crate) fabric: Option<model::FabricSets>,
    pub(crate) holders: Vec<Use>,
    /// The machine that has a group open.
    pub(crate) users: BTreeMap<u32, Uuid>,
    pub(crate) serials: BTreeMap<Address, String>,
    /// Functions that were removed, and that a rescan finds again.
    pub(crate) removed: BTreeSet<Address>,
    /// Functions that do not respond.
    pub(crate) silent: BTreeSet<Address>,
    /// The modes of GPUs, which their own driver tells.
    pub(crate) modes: BTreeMap<Address, model::GpuModes>,
    pub(crate) links: BTreeMap<Address, LinkBaseline>,
    pub(crate) resets: Vec<ResetDone>,
    /// The result of the next reset.
    pub(crate) outcome: Outcome,
    /// How many virtual functions fewer than requested appear next.
    pub(crate) fewer: u16,
    /// How often freeing a vGPU still fails.
    pub(crate) releasing: BTreeMap<Address, u32>,
    /// Counts releases, so that they differ.
    pub(crate) released: u64,
    pub(crate) seed: u64,
}

impl Kernel {
    pub(crate) fn boot(hardware: Hardware, seed: u64) -> Self {
        let mut kernel = Self {
            known: hardware.inventory.clone(),
            functions: BTreeMap::new(),
            vf_counts: BTreeMap::new(),
            mdevs: BTreeMap::new(),
            mdev_groups: BTreeMap::new(),
            definitions: BTreeMap::new(),
            boot_list: BTreeMap::new(),
            nodes: BTreeMap::new(),
            device_nodes: BTreeMap::new(),
            units: hardware.units.clone(),
            modules: BTreeSet::new(),
            consoles: BTreeMap::new(),
            framebuffers: BTreeMap::new(),
            card_modules: BTreeMap::new(),
            fabric: hardware.fabric.clone(),
            holders: Vec::new(),
            users: BTreeMap::new(),
            serials: hardware.serials.clone(),
            removed: BTreeSet::new(),
            silent: BTreeSet::new(),
            modes: BTreeMap::new(),
            links: BTreeMap::new(),
            resets: Vec::new(),
            outcome: Outcome::Well,
            fewer: 0,
            releasing: BTreeMap::new(),
            released: 0,
            seed,
            hardware,
        };
        let addresses: Vec<Address> = kernel.known.functions.keys().copied().collect();
        for address in addresses {
            kernel.appear(address, PowerControl::Auto);
            let driver = kernel.native(address);
            if let Some(driver) = driver {
                kernel.take(address, driver, PowerControl::Auto);
            }
        }
        let physical: Vec<(Address, u16)> = kernel
            .hardware
            .physical
            .iter()
            .map(|(own, physical)| (*own, physical.at_boot))
            .collect();
        for (address, count) in physical {
            // Keep only what the hardware provides at boot.
            let _ = kernel.write_vf_count(address, count);
        }
        kernel.start_desktop();
        for unit in kernel.units.clone().into_iter().filter_map(|(unit, on)| on.then_some(unit)) {
            kernel.unit_started(&unit);
        }
        kernel
    }

    /// Adds a function without a driver.
    fn appear(&mut self, address: Address, power: PowerControl) {
        let physical = self.hardware.physical.contains_key(&address);
        let ethernet = self.physical_of(address).is_some_and(|(_, physical)| physical.ethernet);
        let state = FunctionState {
            driver: None,
            driver_override: None,
            power,
            persistence: None,
            autoprobe: physical.then_some(true),
            settings: ethernet.then(netlink::default_settings),
            vgpu: None,
            mark: None,
        };
        self.functions.insert(address, state);
        let bridge = self.known.function(address).is_none_or(|f| f.kind() == Kind::Bridge);
        if !bridge && !self.is_virtual(address) {
            self.links.insert(address, LINK);
        }
    }

    /// Removes a function and everything that depends on it.
    pub(crate) fn lose(&mut self, address: Address) {
        self.release_parts(address);
        self.functions.remove(&address);
        self.silent.remove(&address);
        self.releasing.remove(&address);
        self.holders.retain(|using| using.holder.address != address);
        self.drop_nodes(address);
    }

    /// The kernel finds a plugged-in function and binds it to its driver.
    pub(crate) fn find(&mut self, address: Address) {
        self.appear(address, PowerControl::On);
        self.silent.remove(&address);
        // If probing fails, it stays without a driver.
        let _ = self.probe(address);
    }

    pub(crate) fn state(&self, address: Address) -> Result<&FunctionState, Errno> {
        self.functions.get(&address).ok_or(ENOENT)
    }

    pub(crate) fn change(
        &mut self,
        address: Address,
        change: impl FnOnce(&mut FunctionState),
    ) -> Result<(), Errno> {
        self.functions.get_mut(&address).map(change).ok_or(ENOENT)
    }

    /// The native driver of a function.
    pub(crate) fn native(&self, address: Address) -> Option<String> {
        self.known.function(address)?.driver.clone()
    }

    /// Whether a function is bound to its native driver.
    pub(crate) fn is_native(&self, address: Address) -> bool {
        let driver = self.functions.get(&address).and_then(|state| state.driver.clone());
        driver.is_some() && driver == self.native(address)
    }

    pub(crate) fn group_of(&self, address: Address) -> Option<u32> {
        self.known.function(address)?.iommu_group
    }

    pub(crate) fn is_on_vfio(&self, address: Address) -> bool {
        let driver = self.functions.get(&address).and_then(|state| state.driver.as_deref());
        driver.is_some_and(|driver| is_vfio(driver, "vfio-pci"))
    }

    /// Whether the function is available through VFIO: it is on a vfio driver, or its vendor's driver made it a vGPU.
    pub(crate) fn is_offered(&self, address: Address) -> bool {
        let vgpu = self.functions.get(&address).and_then(|state| state.vgpu);
        self.is_on_vfio(address) || vgpu.is_some_and(|current| current != 0)
    }

    /// Whether a machine has the function open.
    pub(crate) fn is_open(&self, address: Address) -> bool {
        let group = self.group_of(address);
        self.is_offered(address) && group.is_some_and(|group| self.users.contains_key(&group))
    }

    /// The lowest free group number, as the kernel assigns them (`ida_alloc` in drivers/iommu/iommu.c).
    fn free_group(&self) -> u32 {
        let taken = self.known.groups.keys().chain(self.mdev_groups.values());
        let taken: BTreeSet<u32> = taken.copied().collect();
        (0..).find(|number| !taken.contains(number)).unwrap_or_default()
    }
}
