//! The hardware of a simulated host at each boot.

use std::collections::{BTreeMap, BTreeSet};

use model::{Address, FabricSets, Id, Inventory, VgpuType};

/// The hardware of a simulated host, and what is active at boot.
#[derive(Clone, Debug, Default)]
pub struct Hardware {
    /// Its functions, without virtual ones; a function's driver is its native driver.
    pub inventory: Inventory,
    /// SR-IOV properties of the physical functions.
    pub physical: BTreeMap<Address, PhysicalFunction>,
    /// Properties of the parents of mediated devices.
    pub parents: BTreeMap<Address, MdevParent>,
    /// Serial numbers.
    pub serials: BTreeMap<Address, String>,
    /// GPUs for which nvidia-persistenced enables persistence mode when it starts.
    pub persistent: BTreeSet<Address>,
    /// Units, and whether they are active after the boot.
    pub units: BTreeMap<String, bool>,
    /// The desktop of the host, if it has one.
    pub desktop: Option<Desktop>,
    /// The sets of GPUs that its Fabric Manager tells, after each boot.
    pub fabric: Option<FabricSets>,
}

/// What draws on a card of the host after each boot.
#[derive(Clone, Debug)]
pub struct Desktop {
    /// The card.
    pub card: Address,
    /// The unit of the display manager. While it runs and the card has its native driver, a session draws on it.
    pub manager: String,
    /// A service that uses the card too, if any.
    pub server: Option<String>,
    /// The virtual consoles.
    pub consoles: Vec<u32>,
    /// A framebuffer of the firmware in the card's memory, with its driver.
    pub framebuffer: Option<(String, String)>,
    /// The modules on the card's driver, those first that no other uses.
    pub modules: Vec<String>,
}

/// SR-IOV properties of a physical function (PCI Express Base Specification, 9.3.3).
#[derive(Clone, Debug)]
pub struct PhysicalFunction {
    /// `TotalVFs`.
    pub total: u16,
    /// `First VF Offset`, in routing ids.
    pub offset: u16,
    /// `VF Stride`, in routing ids.
    pub stride: u16,
    /// `VF Device ID`.
    pub device: Id,
    /// The native driver of its virtual functions.
    pub driver: Option<String>,
    /// Whether virtual functions can be configured by netlink.
    pub ethernet: bool,
    /// The vGPU types of its virtual functions, if they can become vGPUs.
    pub vgpus: Option<VgpuBoard>,
    /// The number of virtual functions after each boot.
    pub at_boot: u16,
}

/// A parent of mediated devices.
#[derive(Clone, Debug)]
pub struct MdevParent {
    /// The capacity that its mediated devices share, such as megabytes of frame buffer.
    pub capacity: u32,
    /// The types that it offers.
    pub types: Vec<MdevKind>,
    /// Whether the first mediated device fixes the type of all.
    pub uniform: bool,
    /// Writable attributes of a mediated device.
    pub attributes: Vec<String>,
}

/// A type of mediated devices.
#[derive(Clone, Debug)]
pub struct MdevKind {
    /// `nvidia-474`.
    pub id: String,
    /// `NVIDIA A100-4C`.
    pub name: String,
    /// The share of the parent's capacity.
    pub cost: u32,
}

/// The vGPU types of a GPU's virtual functions.
#[derive(Clone, Debug)]
pub struct VgpuBoard {
    /// The capacity that its vGPUs share.
    pub capacity: u32,
    /// The types, each with its share of the capacity.
    pub types: Vec<(VgpuType, u32)>,
    /// Whether the first vGPU fixes the type of all (no heterogeneous mode).
    pub uniform: bool,
    /// How often, at most, the kernel returns EBUSY before it frees one.
    pub slow_release: u32,
}

impl From<Inventory> for Hardware {
    fn from(inventory: Inventory) -> Self {
        Self { inventory, ..Self::default() }
    }
}

impl PhysicalFunction {
    /// A physical function with `total` virtual functions for `driver`.
    #[must_use]
    pub fn new(total: u16, device: u16, driver: &str) -> Self {
        Self {
            total,
            offset: 128,
            stride: 1,
            device: Id(device),
            driver: Some(driver.into()),
            ethernet: false,
            vgpus: None,
            at_boot: 0,
        }
    }

    /// The address of a virtual function; `None` if it would be beyond the last bus.
    pub(crate) fn address(&self, own: Address, index: u16) -> Option<Address> {
        let routing =
            u32::from(own.bus()) << 8 | u32::from(own.device()) << 3 | u32::from(own.function());
        let routing = routing + u32::from(self.offset) + u32::from(index) * u32::from(self.stride);
        let bus = u8::try_from(routing >> 8).ok()?;
        let low = routing.to_le_bytes()[0];
        Address::new(own.domain(), bus, low >> 3, low & 7)
    }
}
