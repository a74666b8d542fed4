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
        groups.entry(number).or_default().domain_type = domain_type(root, number).flatten();
    }
    groups
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
