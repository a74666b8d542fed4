//! One PCI function, from the attributes in its directory.

use std::str::FromStr;

use model::{Address, Class, Function, Id, VirtualFunctions};
use rustix::io::Errno;

use super::{bars, below};
use crate::place::Place;
use crate::problem::words;
use crate::root::{self, Dir};

/// Reads a function. What is wrong with it is in its notes.
pub fn read(address: Address, link: &str, dir: root::Result<Dir>) -> Function {
    let place = Place::of_link(link);
    let mut function = empty(address, &place);
    match dir {
        Ok(dir) => Attributes::list(&dir, &mut function.notes).fill(&mut function),
        Err(errno) => function.notes.push(format!("it cannot be looked into: {}", words(errno))),
    }
    function
}

fn empty(address: Address, place: &Place) -> Function {
    Function { path: place.bridges.clone(), ..Function::unknown(address) }
}

/// The attributes of one function. Those that are not in its directory are not there, which is no fault; those that
/// are there and cannot be read or understood are noted.
struct Attributes<'a> {
    dir: &'a Dir,
    present: Vec<String>,
}

impl<'a> Attributes<'a> {
    fn list(dir: &'a Dir, notes: &mut Vec<String>) -> Self {
        let present = dir.names(".").unwrap_or_else(|errno| {
            notes.push(format!("its attributes cannot be listed: {}", words(errno)));
            Vec::new()
        });
        Self { dir, present }
    }

    fn fill(&self, function: &mut Function) {
        let mut notes = std::mem::take(&mut function.notes);
        self.identify(function, &mut notes);
        function.driver = self.link("driver", &mut notes);
        function.iommu_group = self.link_to("iommu_group", &mut notes);
        function.physical_function = self.link_to("physfn", &mut notes);
        let total = self.value("sriov_totalvfs", &mut notes).filter(|most: &u16| *most > 0);
        function.sriov = total.map(|total| VirtualFunctions {
            total,
            present: self.virtual_functions(&mut notes),
            autoprobe: self.value("sriov_drivers_autoprobe", &mut notes).map(|on: u8| on != 0),
        });
        let node: Option<i32> = self.value("numa_node", &mut notes);
        function.numa_node = node.and_then(|node| u32::try_from(node).ok());
        function.boot_vga = self.value("boot_vga", &mut notes) == Some(1u8);
        if let Some(text) = self.text("resource", &mut notes) {
            let (bars, understood) = bars::read(&text);
            function.bars = bars;
            if !understood {
                notes.push("its resource has lines that are no BARs".into());
            }
        }
        if let Some(text) = self.text("reset_method", &mut notes) {
            function.reset_methods = text.split_ascii_whitespace().map(str::to_owned).collect();
        }
        function.resettable = self.has("reset");
        function.nodes.interfaces = below::interfaces(self.dir, &self.present);
        function.nodes.block_devices = below::block_devices(self.dir, function.class.kind());
        function.notes = notes;
    }

    fn identify(&self, function: &mut Function, notes: &mut Vec<String>) {
        let must = |name: &str, notes: &mut Vec<String>| {
            if !self.has(name) {
                notes.push(format!("it has no {name}"));
            }
        };
        for name in ["vendor", "device", "class"] {
            must(name, notes);
        }
        function.vendor = self.value("vendor", notes).unwrap_or(Id::NONE);
        function.device = self.value("device", notes).unwrap_or(Id::NONE);
        function.class = self.value("class", notes).unwrap_or(Class::NONE);
        // 0000 stands for "has none" (bridges, old devices).
        let subsystem = |id: &Id| id.0 != 0;
        function.subsystem_vendor = self.value("subsystem_vendor", notes).filter(subsystem);
        function.subsystem_device = self
            .value("subsystem_device", notes)
            .filter(|id| subsystem(id) || function.subsystem_vendor.is_some());
        let revision: Option<Id> = self.value("revision", notes);
        function.revision = revision.and_then(|id| u8::try_from(id.0).ok()).unwrap_or_default();
    }

    fn virtual_functions(&self, notes: &mut Vec<String>) -> Vec<Address> {
        let mut numbered: Vec<(u32, Address)> = Vec::new();
        for name in &self.present {
            let Some(number) = name.strip_prefix("virtfn").and_then(|n| n.parse().ok()) else {
                continue;
            };
            numbered.extend(self.link_to(name, notes).map(|address| (number, address)));
        }
        numbered.sort_unstable();
        numbered.into_iter().map(|(_, address)| address).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.present.binary_search_by(|present| present.as_str().cmp(name)).is_ok()
    }

    fn text(&self, name: &str, notes: &mut Vec<String>) -> Option<String> {
        if !self.has(name) {
            return None;
        }
        let read = self.dir.attribute(name);
        read.inspect_err(|errno| notes.push(unreadable(name, *errno))).ok()
    }

    fn value<T: FromStr>(&self, name: &str, notes: &mut Vec<String>) -> Option<T> {
        let text = self.text(name, notes)?;
        let value = text.parse().ok();
        if value.is_none() {
            notes.push(format!("its {name} makes no sense: {:?}", shorten(&text)));
        }
        value
    }

    fn link(&self, name: &str, notes: &mut Vec<String>) -> Option<String> {
        if !self.has(name) {
            return None;
        }
        match self.dir.link_name(name) {
            Ok(target) => Some(target),
            // Unbound or removed between the listing of the directory and now: as if it had never been there.
            Err(Errno::NOENT) => None,
            Err(errno) => {
                notes.push(unreadable(name, errno));
                None
            }
        }
    }

    fn link_to<T: FromStr>(&self, name: &str, notes: &mut Vec<String>) -> Option<T> {
        let target = self.link(name, notes)?;
        let value = target.parse().ok();
        if value.is_none() {
            notes.push(format!("its {name} points nowhere sensible: {:?}", shorten(&target)));
        }
        value
    }
}

fn unreadable(name: &str, errno: Errno) -> String {
    format!("its {name} cannot be read: {}", words(errno))
}

/// So much of a text as a note can bear.
fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
