//! One PCI function, from the attributes in its directory.

use std::str::FromStr;

use model::{Address, Class, Function, Id, VirtualFunctions};
use rustix::io::Errno;

use super::modalias::Modalias;
use super::{Scope, bars};
use crate::problem::words;
use crate::root::Dir;
use crate::sriov::{Sriov, Unread};

/// Reads the function's own directory. Problems are in its notes.
pub fn read(address: Address, dir: &Dir, scope: Scope) -> Function {
    let mut function = Function::unknown(address);
    let mut attributes = Attributes { dir, notes: Vec::new() };
    attributes.identify(&mut function);
    attributes.place(&mut function);
    attributes.resources(&mut function);
    if scope != Scope::Rows {
        attributes.abilities(&mut function);
    }
    if scope == Scope::Listing {
        attributes.power(&mut function);
        attributes.faults(&mut function);
    }
    function.notes = attributes.notes;
    function
}

/// Adds the function's power state.
pub fn add_power(function: &mut Function, dir: &Dir) {
    let mut attributes = Attributes { dir, notes: Vec::new() };
    attributes.power(function);
    function.notes.extend(attributes.notes);
}

/// The attributes of one function. A missing attribute is not a problem; one that cannot be read or parsed gets a note.
struct Attributes<'a> {
    dir: &'a Dir,
    notes: Vec<String>,
}

impl Attributes<'_> {
    fn identify(&mut self, function: &mut Function) {
        match self.text("modalias").map(|text| Modalias::read(&text).ok_or(text)) {
            Some(Ok(modalias)) => {
                function.vendor = modalias.vendor;
                function.device = modalias.device;
                function.subsystem_vendor = Some(modalias.subsystem_vendor);
                function.subsystem_device = Some(modalias.subsystem_device);
                function.class = modalias.class;
            }
            Some(Err(text)) => {
                self.notes.push(malformed("modalias", &text));
                self.identify_by_parts(function);
            }
            None => self.identify_by_parts(function),
        }
        // 0000 means "none" (bridges, old devices).
        function.subsystem_vendor = function.subsystem_vendor.filter(|id| id.0 != 0);
        function.subsystem_device =
            function.subsystem_device.filter(|id| id.0 != 0 || function.subsystem_vendor.is_some());
        let revision: Option<Id> = self.value("revision");
        function.revision = revision.and_then(|id| u8::try_from(id.0).ok()).unwrap_or_default();
    }

    fn identify_by_parts(&mut self, function: &mut Function) {
        function.vendor = self.required("vendor").unwrap_or(Id::NONE);
        function.device = self.required("device").unwrap_or(Id::NONE);
        function.class = self.required("class").unwrap_or(Class::NONE);
        function.subsystem_vendor = self.value("subsystem_vendor");
        function.subsystem_device = self.value("subsystem_device");
    }

    fn place(&mut self, function: &mut Function) {
        // Only display functions have one (`pci_dev_attrs_are_visible` in drivers/pci/pci-sysfs.c).
        if matches!(function.class.0 >> 16, 0x03 | 0xff) {
            function.boot_vga = self.value("boot_vga") == Some(1u8);
        }
        function.driver = self.link("driver");
        function.iommu_group = self.link_to("iommu_group");
        function.physical_function = self.link_to("physfn");
        let node: Option<i32> = self.value("numa_node");
        function.numa_node = node.and_then(|node| u32::try_from(node).ok());
    }

    fn resources(&mut self, function: &mut Function) {
        let noted = self.notes.len();
        let Some(text) = self.text("resource") else {
            // Each function has one (`pci_dev_resource_attrs` in drivers/pci/pci-sysfs.c): a copy of a tree can lack it.
            if self.notes.len() == noted {
                self.notes.push("no resource, so its BARs are unknown".into());
            }
            return;
        };
        let (bars, understood) = bars::read(&text);
        function.bars = bars;
        if !understood {
            self.notes.push("resource has malformed lines".into());
        }
    }

    fn abilities(&mut self, function: &mut Function) {
        if let Some(text) = self.text("reset_method") {
            function.reset_methods = text.split_ascii_whitespace().map(str::to_owned).collect();
            // The file exists only for functions with a method (`pci_dev_reset_method_attr_is_visible` in drivers/pci/pci.c),
            // and writing an empty line to it removes them all.
            function.resets_off = function.reset_methods.is_empty();
        }
        function.resettable = !function.reset_methods.is_empty() || self.dir.exists("reset");
        let sriov = Sriov::of(self.dir);
        let total = self.noted(sriov.total()).filter(|total| *total > 0);
        function.sriov = total.map(|total| VirtualFunctions {
            total,
            present: Vec::new(),
            autoprobe: self.noted(sriov.autoprobe()),
        });
    }

    /// The kernel has all of this in memory: reading it wakes nothing and takes no lock.
    fn power(&mut self, function: &mut Function) {
        let some = |text: &String| !text.is_empty();
        function.power.state = self.text("power_state").filter(some);
        function.power.runtime_status = self.text("power/runtime_status").filter(some);
        function.power.control = self.text("power/control").filter(some);
        function.power.d3cold_allowed = self.value("d3cold_allowed").map(|on: u8| on != 0);
    }

    fn faults(&mut self, function: &mut Function) {
        // "fixed", "removable" or "unknown" (Documentation/ABI/testing/sysfs-devices-removable).
        function.removable = self.text("removable").as_deref() == Some("removable");
        function.broken_parity = self.value("broken_parity_status") == Some(1u8);
    }

    fn noted<T>(&mut self, read: Result<T, Unread>) -> Option<T> {
        read.map_err(|unread| self.notes.extend(note(&unread))).ok()
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.dir.attribute(name) {
            Ok(text) => Some(text),
            Err(Errno::NOENT) => None,
            Err(errno) => {
                self.notes.push(unreadable(name, errno));
                None
            }
        }
    }

    fn value<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.notes.push(malformed(name, &text));
        }
        value
    }

    fn required<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let noted = self.notes.len();
        let value = self.value(name);
        if value.is_none() && self.notes.len() == noted {
            self.notes.push(format!("no {name}"));
        }
        value
    }

    fn link(&mut self, name: &str) -> Option<String> {
        match self.dir.link_name(name) {
            Ok(target) => Some(target),
            Err(Errno::NOENT) => None,
            Err(errno) => {
                self.notes.push(unreadable(name, errno));
                None
            }
        }
    }

    fn link_to<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let target = self.link(name)?;
        let value = target.parse().ok();
        if value.is_none() {
            self.notes.push(format!("invalid target of the link {name}: {:?}", shorten(&target)));
        }
        value
    }
}

/// The note for an attribute that cannot be read.
pub fn unreadable(name: &str, errno: Errno) -> String {
    format!("cannot read {name}: {}", words(errno))
}

/// The note for an attribute that cannot be parsed.
pub fn malformed(name: &str, text: &str) -> String {
    format!("cannot parse {name}: {:?}", shorten(text))
}

/// The note for an SR-IOV attribute without a value; `None` if the function does not have the attribute.
pub fn note(unread: &Unread) -> Option<String> {
    match unread {
        Unread::Refused { errno: Errno::NOENT, .. } => None,
        Unread::Refused { name, errno } => Some(unreadable(name, *errno)),
        Unread::Malformed { name, text } => Some(malformed(name, text)),
    }
}

/// The beginning of a text, for a note.
fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
