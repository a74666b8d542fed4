//! What a simulated host is made of: what is there at each boot.

use std::collections::{BTreeMap, BTreeSet};

use model::{Address, Id, Inventory, VgpuType};

/// The hardware of a simulated host, and what starts with it.
#[derive(Clone, Debug, Default)]
pub struct Hardware {
    /// Its functions, without virtual ones; a function's driver is the one that knows it.
    pub inventory: Inventory,
    /// What makes some of them physical functions.
    pub physical: BTreeMap<Address, PhysicalFunction>,
    /// What makes some of them parents of mediated devices.
    pub parents: BTreeMap<Address, MdevParent>,
    /// The serial numbers of those that have one.
    pub serials: BTreeMap<Address, String>,
    /// GPUs of which nvidia-persistenced switches persistence mode on when it starts.
    pub persistent: BTreeSet<Address>,
    /// Units, and whether they are active after the boot.
    pub units: BTreeMap<String, bool>,
}

/// What a physical function can do (PCI Express Base Specification, 9.3.3).
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
    /// The driver that knows its virtual functions.
    pub driver: Option<String>,
    /// Whether it can be told by netlink what a virtual function may do.
    pub ethernet: bool,
    /// What its virtual functions can be made, where they can be made vGPUs.
    pub vgpus: Option<VgpuBoard>,
    /// How many virtual functions it has after each boot.
    pub at_boot: u16,
}

/// A parent of mediated devices.
#[derive(Clone, Debug)]
pub struct MdevParent {
    /// What its mediated devices share, such as megabytes of frame buffer.
    pub capacity: u32,
    /// The types that it offers.
    pub types: Vec<MdevKind>,
    /// Whether the first mediated device fixes the type of all.
    pub uniform: bool,
    /// Attributes that a mediated device has for writing.
    pub attributes: Vec<String>,
}

/// A type of mediated devices.
#[derive(Clone, Debug)]
pub struct MdevKind {
    /// `nvidia-474`.
    pub id: String,
    /// `NVIDIA A100-4C`.
    pub name: String,
    /// How much of the parent's capacity one takes.
    pub cost: u32,
}

/// What the virtual functions of a GPU can be made.
#[derive(Clone, Debug)]
pub struct VgpuBoard {
    /// What its vGPUs share.
    pub capacity: u32,
    /// The types, and how much of the capacity each takes.
    pub types: Vec<(VgpuType, u32)>,
    /// Whether the first vGPU fixes the type of all, as it is without heterogeneous mode.
    pub uniform: bool,
    /// How often at most the kernel says EBUSY before it frees one.
    pub slow_release: u32,
}

impl From<Inventory> for Hardware {
    fn from(inventory: Inventory) -> Self {
        Self { inventory, ..Self::default() }
    }
}

impl PhysicalFunction {
    /// One with so many virtual functions that are known to `driver`.
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

    /// Where one of its virtual functions is; `None` where it would be beyond the last bus.
    pub(crate) fn address(&self, own: Address, index: u16) -> Option<Address> {
        let routing =
            u32::from(own.bus()) << 8 | u32::from(own.device()) << 3 | u32::from(own.function());
        let routing = routing + u32::from(self.offset) + u32::from(index) * u32::from(self.stride);
        let bus = u8::try_from(routing >> 8).ok()?;
        let low = routing.to_le_bytes()[0];
        Address::new(own.domain(), bus, low >> 3, low & 7)
    }
}
