//! Who shares the IOMMU group, and why.

use std::collections::BTreeSet;

use super::{Case, Finding, Severity, listed, mended};
use crate::{Acs, Address, Code, Function, Inventory, Member, PortType, Refusal, Role};

/// The obstacles in the assembly itself. That the host has no IOMMU or VFIO at all is said once, by the checks of the
/// host.
pub fn obstacles(case: &Case<'_>) -> impl Iterator<Item = Refusal> {
    let vfio = &case.patient.inventory.vfio;
    let of_host = move |code: Code| match code {
        Code::VfioMissing => true,
        Code::NoIommu => !vfio.iommu || vfio.unsafe_noiommu,
        _ => false,
    };
    let all = case.assembly.obstacles(case.patient.inventory).into_iter();
    all.filter(move |refusal| !of_host(refusal.code))
}

/// Why the assembly cannot be handed over.
pub fn assignable(case: &Case<'_>) -> Vec<Finding> {
    let findings: Vec<Finding> = obstacles(case)
        .map(|refusal| {
            let check = if refusal.code == Code::InUse { "sriov" } else { "assignable" };
            let meaning = "the assembly cannot be handed over";
            let finding = case.says(check, Severity::Impossible, refusal.message, meaning);
            mended(finding, refusal.remedy, Vec::new())
        })
        .collect();
    if !findings.is_empty() {
        return findings;
    }
    let read = format!("the assembly is {}", listed(case.taken().map(|function| function.address)));
    vec![case.says("assignable", Severity::Good, read, "nothing in it is part of the host itself")]
}

/// Who else is in the groups of the assembly, and which bridge does not keep them apart.
pub fn group(case: &Case<'_>) -> Vec<Finding> {
    let Some(number) = case.head.iommu_group else { return Vec::new() };
    let held: Vec<&Member> =
        case.assembly.members.iter().filter(|member| member.role == Role::Held).collect();
    if held.is_empty() {
        let read = format!("IOMMU group {number} has no other device in it");
        let meaning = "the device goes alone, and nothing else can reach it";
        return vec![case.says("group-isolation", Severity::Good, read, meaning)];
    }
    let inventory = case.patient.inventory;
    let others: Vec<String> =
        held.iter().map(|member| described(inventory, member.address)).collect();
    let read = format!("IOMMU group {number} is shared with {}", listed(others));
    let meaning = format!(
        "they are taken from the host together, for they can reach each other past the IOMMU; {}",
        reason(case, &held)
    );
    let finding = case.says("group-isolation", Severity::Warning, read, meaning);
    vec![mended(finding, apart(case), Vec::new())]
}

/// How to come to a group of one's own.
fn apart(case: &Case<'_>) -> &'static str {
    match (case.can_go(), case.head.path.is_empty()) {
        (true, false) => {
            "hand them over together, which Handover does, or move the card to a slot below another root port (`handover \
             topo` shows them); some firmware has an option named ACS. pcie_acs_override= is no cure: it only hides that \
             the devices can reach each other"
        }
        (false, false) => {
            "move the card to a slot below another root port (`handover topo` shows them); some firmware has an option \
             named ACS. pcie_acs_override= is no cure: it only hides that the devices can reach each other"
        }
        (true, true) => {
            "hand them over together, which Handover does; they are part of the chipset and cannot be moved"
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

/// The bridges that do not keep the members of the group apart (`pci_acs_path_enabled` in drivers/pci/pci.c), in words.
fn reason(case: &Case<'_>, held: &[&Member]) -> String {
    let inventory = case.patient.inventory;
    if held.iter().all(|member| member.address.same_slot(case.head.address)) {
        return "they are functions of one device that has no Access Control Services (ACS) between them".into();
    }
    let members = held.iter().filter_map(|member| inventory.function(member.address));
    let mut bridges: BTreeSet<Address> = case.head.path.iter().copied().collect();
    bridges.extend(members.flat_map(|function| function.path.iter().copied()));
    let functions: Vec<&Function> =
        bridges.iter().filter_map(|address| inventory.function(*address)).collect();
    if functions.is_empty() {
        return "they sit on the root bus, and the chipset does not keep them apart".into();
    }
    let guilty: Vec<String> = functions.iter().filter_map(|bridge| fault(bridge)).collect();
    match guilty.as_slice() {
        [] if functions.iter().any(|bridge| bridge.detail.is_none()) => {
            "which bridge is the reason could not be read; run the doctor as root".into()
        }
        [] => "no bridge on the way is known as the reason; see `dmesg | grep -i -e iommu -e ACS`"
            .into(),
        _ => format!("the reason: {}", listed(guilty)),
    }
}

/// Why a bridge does not keep apart what is behind it; `None` where it does, or where that is not known.
fn fault(bridge: &Function) -> Option<String> {
    let detail = bridge.detail.as_deref()?;
    let name = match detail.port_type? {
        PortType::RootPort => "root port",
        PortType::SwitchDownstream => "switch port",
        PortType::PcieToPci => {
            return Some(format!(
                "{} is a bridge to conventional PCI, behind which devices cannot be told apart",
                bridge.address
            ));
        }
        _ => return None,
    };
    match detail.acs {
        None => Some(format!("{name} {} has no ACS", bridge.address)),
        Some(acs) if acs.isolates() => None,
        Some(acs) if acs.supported & Acs::NEEDED == Acs::NEEDED => {
            Some(format!("{name} {} has ACS, which is not switched on", bridge.address))
        }
        Some(_) => Some(format!("{name} {} has only a part of ACS", bridge.address)),
    }
}
