//! Devices that share the IOMMU group, and why.

use std::collections::BTreeSet;

use super::{Case, Finding, Severity, listed, with_remedy};
use crate::{Acs, Address, Code, Function, Inventory, Member, PortType, Refusal, Role};

/// The obstacles in the assembly itself. The checks of the host report a missing IOMMU or VFIO.
pub fn obstacles(case: &Case<'_>) -> impl Iterator<Item = Refusal> {
    let vfio = &case.patient.inventory.vfio;
    let of_host = move |code: Code| match code {
        Code::VfioMissing => true,
        Code::NoIommu => {
            !vfio.iommu || vfio.xen_dom0 || vfio.unsafe_noiommu || vfio.unmapped_interrupts
        }
        _ => false,
    };
    // Partitions of a claim are released, never removed: the check `claimed` says so.
    let claimed = case.is_claimed();
    let all = case.assembly.obstacles(case.patient.inventory).into_iter();
    all.filter(move |refusal| {
        let told_elsewhere = of_host(refusal.code) || (claimed && refusal.code == Code::InUse);
        !told_elsewhere
    })
}

/// Reasons why the assembly cannot be handed over.
pub fn assignable(case: &Case<'_>) -> Vec<Finding> {
    let findings: Vec<Finding> = obstacles(case)
        .map(|refusal| {
            let check = if refusal.code == Code::InUse { "sriov" } else { "assignable" };
            let meaning = "the assembly cannot be handed over";
            let finding = case.finding(check, Severity::Impossible, refusal.message, meaning);
            with_remedy(finding, refusal.remedy, Vec::new())
        })
        .collect();
    if !findings.is_empty() {
        return findings;
    }
    let read = format!("the assembly is {}", listed(case.taken().map(|function| function.address)));
    vec![case.finding("assignable", Severity::Good, read, "no member is part of the host itself")]
}

/// Other members of the assembly's groups, and the bridges that do not isolate them.
pub fn group(case: &Case<'_>) -> Vec<Finding> {
    let Some(number) = case.head.iommu_group else { return Vec::new() };
    let held: Vec<&Member> =
        case.assembly.members.iter().filter(|member| member.role == Role::Held).collect();
    if held.is_empty() {
        let read = format!("IOMMU group {number} has no other device");
        let meaning = "the device is handed over alone, and is isolated";
        return vec![case.finding("group-isolation", Severity::Good, read, meaning)];
    }
    let inventory = case.patient.inventory;
    let others: Vec<String> =
        held.iter().map(|member| described(inventory, member.address)).collect();
    let read = format!("IOMMU group {number} is shared with {}", listed(others));
    let meaning = format!(
        "they must be handed over together, because they can reach each other past the IOMMU; {}",
        reason(case, &held)
    );
    let finding = case.finding("group-isolation", Severity::Warning, read, meaning);
    vec![with_remedy(finding, apart(case), Vec::new())]
}

/// How to get a group with a single device.
fn apart(case: &Case<'_>) -> &'static str {
    match (case.can_go(), case.head.path.is_empty()) {
        (true, false) => {
            "hand them over together, as Handover does, or move the card to a slot below another root port (see \
             `handover topo`); some firmware has an option named ACS. pcie_acs_override= does not fix this: it only \
             hides that the devices can reach each other"
        }
        (false, false) => {
            "move the card to a slot below another root port (see `handover topo`); some firmware has an option named \
             ACS. pcie_acs_override= does not fix this: it only hides that the devices can reach each other"
        }
        (true, true) => {
            "hand them over together, as Handover does; they are part of the chipset and cannot be moved"
        }
        (false, true) => "it is part of the chipset and cannot be moved: hand over another device",
    }
}

/// `0000:02:00.0 (nvme on nvme)`.
fn described(inventory: &Inventory, address: Address) -> String {
    let Some(function) = inventory.function(address) else { return address.to_string() };
    match &function.driver {
        Some(driver) => format!("{address} ({} on {driver})", function.kind()),
        None => format!("{address} ({})", function.kind()),
    }
}

/// The bridges that do not isolate the members of the group (`pci_acs_path_enabled` in drivers/pci/pci.c).
fn reason(case: &Case<'_>, held: &[&Member]) -> String {
    let inventory = case.patient.inventory;
    if held.iter().all(|member| member.address.same_slot(case.head.address)) {
        return "they are functions of one device without Access Control Services (ACS) between them".into();
    }
    let members = held.iter().filter_map(|member| inventory.function(member.address));
    let mut bridges: BTreeSet<Address> = case.head.path.iter().copied().collect();
    bridges.extend(members.flat_map(|function| function.path.iter().copied()));
    let functions: Vec<&Function> =
        bridges.iter().filter_map(|address| inventory.function(*address)).collect();
    if functions.is_empty() {
        return "they are on the root bus, and the chipset does not isolate them".into();
    }
    let guilty: Vec<String> = functions.iter().filter_map(|bridge| fault(bridge)).collect();
    match guilty.as_slice() {
        [] if functions.iter().any(|bridge| bridge.detail.is_none()) => {
            "run the doctor as root to find the bridge that causes this".into()
        }
        [] => "no bridge on the path explains this; see `dmesg | grep -i -e iommu -e ACS`".into(),
        _ => format!("cause: {}", listed(guilty)),
    }
}

/// Why a bridge does not isolate the devices behind it; `None` if it does, or if unknown.
fn fault(bridge: &Function) -> Option<String> {
    let detail = bridge.detail.as_deref()?;
    let name = match detail.port_type? {
        PortType::RootPort => "root port",
        PortType::SwitchDownstream => "switch port",
        PortType::PcieToPci => {
            return Some(format!(
                "{} is a bridge to conventional PCI, behind which the IOMMU cannot distinguish devices",
                bridge.address
            ));
        }
        _ => return None,
    };
    match detail.acs {
        None => Some(format!("{name} {} has no ACS", bridge.address)),
        Some(acs) if acs.isolates() => None,
        Some(acs) if acs.supported & Acs::NEEDED == Acs::NEEDED => {
            Some(format!("{name} {} has ACS, but it is disabled", bridge.address))
        }
        Some(_) => Some(format!("{name} {} supports only a part of ACS", bridge.address)),
    }
}
