//! From an assembly as it was found to the ordered steps that prepare it. A plan is a value: it can be printed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Address, AsFound, ClaimedMember, Inventory, NodeAccess, PowerControl, Role, Step, is_vfio,
};

/// The steps that bring `members` onto their vfio drivers and let `uid` open their groups.
///
/// The override is written before the unbind: between the two, any other probe on the host could otherwise give the
/// function back to its old driver. `nodes` tells who may open the group nodes that exist already.
#[must_use]
pub fn prepare(
    inventory: &Inventory,
    members: &[ClaimedMember],
    found: &[AsFound],
    nodes: &BTreeMap<u32, NodeAccess>,
    uid: u32,
) -> Vec<Step> {
    let taken: Vec<_> = members
        .iter()
        .filter(|member| member.role != Role::Bystander)
        .filter_map(|member| {
            let function = inventory.function(member.address)?;
            Some((function, found.iter().find(|found| found.address == member.address)?))
        })
        .collect();
    let mut steps = vec![Step::LoadModule { module: "vfio_iommu_type1".into() }];
    let drivers: BTreeSet<&str> = taken.iter().map(|(f, _)| f.vfio_driver.as_str()).collect();
    steps.extend(drivers.iter().map(|d| Step::LoadModule { module: d.replace('-', "_") }));
    for (function, found) in &taken {
        steps.extend(bind(function.address, &function.vfio_driver, found));
    }
    let mut granted = BTreeSet::new();
    for (function, _) in &taken {
        let Some(group) = function.iommu_group.filter(|group| granted.insert(*group)) else {
            continue;
        };
        steps.push(Step::GrantGroup {
            address: function.address,
            group,
            from: nodes.get(&group).copied().unwrap_or(NodeAccess::KERNEL_DEFAULT),
            to: NodeAccess { uid, gid: 0, mode: 0o600 },
        });
    }
    steps
}

/// The steps that bring one function onto its vfio driver.
fn bind(address: Address, vfio: &str, found: &AsFound) -> Vec<Step> {
    let mut steps = Vec::new();
    // Awake while claimed: D3cold and resume failures lose devices (docs/kernel.md, Reset). Once before the unbind, so
    // that whatever follows has the way back recorded, and once after the bind, for vfio-pci sets it to auto.
    let awake = found.power.map(|from| Step::SetPower { address, from, to: PowerControl::On });
    steps.extend(awake.clone());
    if found.driver.as_deref().is_some_and(|driver| is_vfio(driver, vfio)) {
        return steps;
    }
    if found.driver_override.as_deref() != Some(vfio) {
        steps.push(Step::SetOverride {
            address,
            from: found.driver_override.clone(),
            to: Some(vfio.into()),
        });
    }
    if let Some(driver) = &found.driver {
        steps.push(Step::Unbind { address, driver: driver.clone() });
    }
    steps.push(Step::Bind { address, driver: vfio.into() });
    steps.extend(awake);
    steps
}
