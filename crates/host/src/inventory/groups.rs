//! IOMMU groups.

use std::collections::BTreeMap;

use model::{Address, Function, Group};
use rustix::io::Errno;

use super::unreadable;
use crate::root::Root;

const GROUPS: &str = "sys/kernel/iommu_groups";

/// Every IOMMU group. A missing directory means a kernel without an IOMMU, and is not an error.
pub fn read(root: &Root, functions: &BTreeMap<Address, Function>) -> BTreeMap<u32, Group> {
    let mut groups = with_firmware_memory(root, functions);
    // Groups of platform devices and mdevs contain no function, but count too.
    for name in root.names(GROUPS).unwrap_or_default() {
        let Ok(number) = name.parse() else { continue };
        if groups.contains_key(&number) || has_devices(root, number) {
            groups.entry(number).or_default().domain_type = domain_type(root, number).flatten();
        }
    }
    for group in groups.values_mut() {
        note_type(group);
    }
    groups
}

/// The groups with their members, and the memory that the firmware uses through them.
pub fn with_firmware_memory(
    root: &Root,
    functions: &BTreeMap<Address, Function>,
) -> BTreeMap<u32, Group> {
    let mut groups = of(functions);
    for (number, group) in &mut groups {
        add_regions(root, *number, group);
    }
    groups
}

/// Reads again what a group itself has, for updating.
pub fn refresh(root: &Root, number: u32, kind: Option<String>, group: &mut Group) {
    group.domain_type = kind;
    group.notes.clear();
    // As in a fresh reading: of groups without a function, only their type is of interest.
    if group.members.is_empty() {
        group.firmware_memory.clear();
    } else {
        add_regions(root, number, group);
    }
    note_type(group);
}

fn add_regions(root: &Root, number: u32, group: &mut Group) {
    group.firmware_memory.clear();
    match root.attribute(&format!("{GROUPS}/{number}/reserved_regions")) {
        Ok(text) => group.firmware_memory = direct_regions(&text),
        Err(Errno::NOENT) => group.notes.push("no reserved_regions".into()),
        Err(errno) => group.notes.push(unreadable("reserved_regions", errno)),
    }
}

fn note_type(group: &mut Group) {
    if group.domain_type.is_none() {
        group.notes.push("no type".into());
    }
}

/// The regions of type `direct` of a group: lines `0x7d000000 0x7d0fffff direct` (Documentation/ABI/testing/sysfs-kernel-iommu_groups).
/// `direct-relaxable` regions, such as those of graphics and USB, are no obstacle.
fn direct_regions(text: &str) -> Vec<String> {
    let region = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = (words.next()?, words.next()?);
        (words.next()? == "direct").then(|| format!("{}-{}", short(start), short(end)))
    };
    text.lines().filter_map(region).collect()
}

/// `0x00000000bdf6e000` as `0xbdf6e000`; other text unchanged.
fn short(address: &str) -> String {
    let digits = address.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    digits.map_or_else(|| address.into(), |number| format!("{number:#x}"))
}

/// Whether a group has a member. A group disappears with its last device, but not at once:
/// `__iommu_group_remove_device` (drivers/iommu/iommu.c) removes the device first, and its uevent may come before the
/// directory is gone.
pub fn has_devices(root: &Root, number: u32) -> bool {
    root.names(&format!("{GROUPS}/{number}/devices")).is_ok_and(|names| !names.is_empty())
}

/// The domain type of a group, if the kernel reports it; `None` if there is no such group.
pub fn domain_type(root: &Root, number: u32) -> Option<Option<String>> {
    match root.attribute(&format!("{GROUPS}/{number}/type")) {
        Ok(text) => Some(Some(text).filter(|text| !text.is_empty())),
        // Kernels before 4.19 have no type.
        Err(_) => root.exists(&format!("{GROUPS}/{number}")).then_some(None),
    }
}

/// The groups with their members, from the functions.
pub fn of(functions: &BTreeMap<Address, Function>) -> BTreeMap<u32, Group> {
    let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
    for function in functions.values() {
        if let Some(number) = function.iommu_group {
            groups.entry(number).or_default().members.push(function.address);
        }
    }
    groups
}
