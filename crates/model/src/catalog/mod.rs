//! The catalog: maps functions of a host to resources, as a devices file defines.
//!
//! The file format is ironcore's (`vendors`, `devices`, each with `id`, `name`, `type`); the engine reads it. If
//! several lines fit one function, the most specific one gets it: one that names addresses, then one with a subsystem
//! or revision, then a device id, then a class code. Among equally specific lines the last one gets it, as in the
//! original.

mod reason;
mod suggest;
mod survey;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use reason::{Reason, Seen, Unmatched};
pub use survey::{Resource, Survey, SurveyState, SurveyedDevice};

use crate::{Address, Class, Function, Id, Inventory, Kind};

/// The resource that ironcore and Kubernetes call all NVIDIA GPUs. It needs no devices file.
pub const NVIDIA_GPU: &str = "nvidia.com/gpu";

/// The contents of a devices file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Its lines, in the order of the file.
    pub lines: Vec<Line>,
}

/// One device of a devices file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The number of the line in the file on which its `id` is.
    pub number: u32,
    /// The vendor's id.
    pub vendor: Id,
    /// The vendor's name, `nvidia`.
    pub vendor_name: String,
    /// The device's name, `ga100gl.rev.a1`.
    pub name: String,
    /// The type in the resource's name, `gpu`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The functions of the vendor that it covers.
    #[serde(flatten)]
    pub pattern: Pattern,
}

/// The functions of a vendor that a line covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// The device's `id`.
    pub id: ClassOrDevice,
    /// Only with this subsystem vendor.
    pub subsystem_vendor: Option<Id>,
    /// Only with this subsystem id.
    pub subsystem_device: Option<Id>,
    /// Only of this revision.
    pub revision: Option<u8>,
    /// Only at these addresses; empty for all.
    pub addresses: Vec<Address>,
    /// Not at these addresses.
    pub exclude: Vec<Address>,
}

/// The meaning of a device's `id`, by its number of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassOrDevice {
    /// Six digits: the class code as sysfs shows it.
    Class(Class),
    /// Four digits: the device id.
    Device(Id),
}

impl Line {
    /// The name of its resource: `gpu.nvidia/ga100gl.rev.a1`.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("{}.{}/{}", self.kind, self.vendor_name, self.name)
    }

    /// Whether it covers this function, regardless of other lines and of whether the function counts.
    #[must_use]
    pub fn fits(&self, function: &Function) -> bool {
        self.vendor == function.vendor && self.pattern.fits(function)
    }
}

impl Pattern {
    /// A pattern with an id only.
    #[must_use]
    pub const fn of(id: ClassOrDevice) -> Self {
        Self {
            id,
            subsystem_vendor: None,
            subsystem_device: None,
            revision: None,
            addresses: Vec::new(),
            exclude: Vec::new(),
        }
    }

    fn fits(&self, function: &Function) -> bool {
        self.fits_id(function) && self.fits_variant(function) && self.fits_place(function.address)
    }

    fn fits_id(&self, function: &Function) -> bool {
        match self.id {
            ClassOrDevice::Class(class) => class == function.class,
            ClassOrDevice::Device(device) => device == function.device,
        }
    }

    fn fits_variant(&self, function: &Function) -> bool {
        let same = |wanted: Option<Id>, is| wanted.is_none() || wanted == is;
        same(self.subsystem_vendor, function.subsystem_vendor)
            && same(self.subsystem_device, function.subsystem_device)
            && self.revision.is_none_or(|revision| revision == function.revision)
    }

    fn fits_place(&self, address: Address) -> bool {
        (self.addresses.is_empty() || self.addresses.contains(&address))
            && !self.exclude.contains(&address)
    }

    /// Whether it distinguishes variants of one device.
    #[must_use]
    pub const fn tells_variants(&self) -> bool {
        self.subsystem_vendor.is_some()
            || self.subsystem_device.is_some()
            || self.revision.is_some()
    }

    /// The specificity, which decides between lines that fit the same function.
    fn exactness(&self) -> (bool, u8, bool) {
        let variant = u8::from(self.subsystem_vendor.is_some())
            + u8::from(self.subsystem_device.is_some())
            + u8::from(self.revision.is_some());
        let by_device = matches!(self.id, ClassOrDevice::Device(_));
        (!self.addresses.is_empty(), variant, by_device)
    }
}

impl Catalog {
    /// What a request can name: its resources, and [`NVIDIA_GPU`].
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(Line::resource).chain([NVIDIA_GPU.to_owned()])
    }

    /// The functions of each resource on a host, by the resource's name. A resource without functions has an empty
    /// list.
    #[must_use]
    pub fn resources(&self, inventory: &Inventory) -> BTreeMap<String, Vec<Address>> {
        let mut resources: BTreeMap<String, Vec<Address>> =
            self.lines.iter().map(|line| (line.resource(), Vec::new())).collect();
        for (address, index) in self.assign(inventory) {
            let line = self.lines.get(index).map(Line::resource).unwrap_or_default();
            resources.entry(line).or_default().push(address);
        }
        resources
    }

    /// What a request can name: the same, and [`NVIDIA_GPU`].
    #[must_use]
    pub fn claimable(&self, inventory: &Inventory) -> BTreeMap<String, Vec<Address>> {
        let mut resources = self.resources(inventory);
        let gpus = inventory.functions.values().filter(|one| is_nvidia_gpu(one));
        let gpus = gpus.map(|one| one.address).collect();
        resources.entry(NVIDIA_GPU.to_owned()).or_insert(gpus);
        resources
    }

    /// The line of each function.
    fn assign(&self, inventory: &Inventory) -> BTreeMap<Address, usize> {
        let countable = inventory.functions.values().filter(|function| counts(function));
        countable.filter_map(|function| Some((function.address, self.line_of(function)?))).collect()
    }

    fn line_of(&self, function: &Function) -> Option<usize> {
        let fitting = self.lines.iter().enumerate().filter(|(_, line)| line.fits(function));
        // `max_by_key` returns the last of equals.
        fitting.max_by_key(|(_, line)| line.pattern.exactness()).map(|(index, _)| index)
    }
}

/// A whole GPU of NVIDIA's, with or without a display.
fn is_nvidia_gpu(function: &Function) -> bool {
    function.vendor == Id::NVIDIA
        && matches!(function.kind(), Kind::Gpu | Kind::Accelerator)
        && function.physical_function.is_none()
        && counts(function)
}

/// Whether a function can be a device of a resource: a physical function with VFs cannot, but its VFs can.
fn counts(function: &Function) -> bool {
    function.virtual_functions().is_empty()
}
