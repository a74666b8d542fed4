//! IOMMU groups.

use std::collections::BTreeMap;

use model::Group;

use crate::root::Root;

const GROUPS: &str = "sys/kernel/iommu_groups";

/// Every IOMMU group. No directory at all is a kernel without an IOMMU, not an error.
pub fn read(root: &Root) -> BTreeMap<u32, Group> {
    let mut groups = BTreeMap::new();
    for name in root.names(GROUPS).unwrap_or_default() {
        let Ok(number) = name.parse() else { continue };
        // Members that are not PCI functions (platform devices, mdevs) are none of ours.
        let members = root.names(&format!("{GROUPS}/{name}/devices")).unwrap_or_default();
        let members = members.iter().filter_map(|name| name.parse().ok()).collect();
        let domain_type = root.attribute(&format!("{GROUPS}/{name}/type")).ok();
        let domain_type = domain_type.filter(|text| !text.is_empty());
        groups.insert(number, Group { members, domain_type });
    }
    groups
}
