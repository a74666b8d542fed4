//! IOMMU groups.

use std::collections::BTreeMap;

use model::{Address, Function, Group};

use crate::root::Root;

const GROUPS: &str = "sys/kernel/iommu_groups";

/// Every IOMMU group. No directory at all is a kernel without an IOMMU, not an error.
pub fn read(root: &Root, functions: &BTreeMap<Address, Function>) -> BTreeMap<u32, Group> {
    let mut groups = of(functions);
    // Groups of platform devices and mdevs have no function; they are groups all the same.
    for name in root.names(GROUPS).unwrap_or_default() {
        let Ok(number) = name.parse() else { continue };
        if groups.contains_key(&number) || has_devices(root, number) {
            groups.entry(number).or_default().domain_type = domain_type(root, number).flatten();
        }
    }
    groups
}

/// Whether anything is in a group. A group goes with its last device, but not at once: `__iommu_group_remove_device`
/// (drivers/iommu/iommu.c) takes the device out first, and its uevent may come before the directory is away.
pub fn has_devices(root: &Root, number: u32) -> bool {
    root.names(&format!("{GROUPS}/{number}/devices")).is_ok_and(|names| !names.is_empty())
}

/// The domain type of a group, as far as it is told; `None` where there is no such group.
pub fn domain_type(root: &Root, number: u32) -> Option<Option<String>> {
    match root.attribute(&format!("{GROUPS}/{number}/type")) {
        Ok(text) => Some(Some(text).filter(|text| !text.is_empty())),
        // Kernels before 4.19 tell no type.
        Err(_) => root.exists(&format!("{GROUPS}/{number}")).then_some(None),
    }
}

/// The groups that functions say they are in.
pub fn of(functions: &BTreeMap<Address, Function>) -> BTreeMap<u32, Group> {
    let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
    for function in functions.values() {
        if let Some(number) = function.iommu_group {
            groups.entry(number).or_default().members.push(function.address);
        }
    }
    groups
}
