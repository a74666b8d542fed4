//! Whether and how far the kernel can reset the devices of a machine.

use super::reset_bugs::{fails, is_known};
use super::{Case, Finding, Severity, about, listed, with_remedy};
use crate::{Address, Function, Kind, ResetDomain, ResetReach};

/// How each device can be reset between two machines, or before it is returned to the host.
pub fn way(case: &Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = case
        .guests()
        .filter(|function| resets_matter(function))
        .filter_map(|function| finding_for(case, function))
        .collect();
    findings.extend(case.guests().filter(|function| is_unproven(function)).map(unproven));
    if findings.is_empty() && !case.guests().any(fails) {
        let methods: Vec<String> = case
            .guests()
            .filter_map(|function| {
                Some(format!("{}: {}", function.address, function.reset_methods.first()?))
            })
            .collect();
        if !methods.is_empty() {
            let meaning = "every machine gets the device as after power-on";
            findings.push(case.finding("reset", Severity::Good, methods.join(", "), meaning));
        }
    }
    findings
}

/// A VF must support FLR (PCIe specification); an audio function is reset with its GPU.
fn resets_matter(function: &Function) -> bool {
    function.physical_function.is_none() && function.kind() != Kind::Audio
}

/// Whether it is a display card that the kernel can reset, and no data says whether it survives that.
fn is_unproven(function: &Function) -> bool {
    let whole_card = function.kind() == Kind::Gpu && function.physical_function.is_none();
    whole_card && !function.reset_methods.is_empty() && !is_known(function)
}

fn unproven(function: &Function) -> Finding {
    let methods = function.reset_methods.join(", ");
    let read = format!("{} can be reset by {methods}", function.address);
    let meaning = "this display card is not known to reset well: with some, the second machine does not start, or the host \
                   must be rebooted first";
    let finding = about(function.address, "reset", Severity::Note, read, meaning);
    let words =
        "try it before you rely on it: hand it over twice, and look at it on the host in between";
    with_remedy(finding, words, Vec::new())
}

fn finding_for(case: &Case<'_>, function: &Function) -> Option<Finding> {
    let domain = ResetDomain::of(case.patient.inventory, function);
    let address = function.address;
    match domain.reach {
        ResetReach::Function => None,
        ResetReach::Bus => reaches_others(case, function, &domain),
        ResetReach::None => {
            let read = format!("{address} has no reset method");
            let meaning = "a machine gets the device as the previous machine left it, with the contents of its memory; it \
                           may not work again until the host is rebooted";
            let finding = about(address, "reset", Severity::Warning, read, meaning);
            let words = "use it only for machines that may see each other's data, and plan for a reboot of the host \
                         between two of them";
            Some(with_remedy(finding, words, Vec::new()))
        }
        ResetReach::Off => {
            let read = format!("{address} has an empty reset_method: its resets are switched off");
            let meaning = "a machine gets the device as the previous machine left it, with the contents of its memory";
            let finding = about(address, "reset", Severity::Warning, read, meaning);
            let words = "let the kernel choose its methods again, unless they were switched off for a reason";
            Some(with_remedy(finding, words, vec![resets_on(address)]))
        }
        ResetReach::Unknown => {
            let read = format!(
                "{address} can be reset, but the kernel does not show how (reset_method needs Linux 5.15)"
            );
            let meaning = "it is unknown whether the reset affects other devices";
            Some(about(address, "reset", Severity::Note, read, meaning))
        }
    }
}

/// The command that lets the kernel use its own methods again (`reset_method_store` in drivers/pci/pci.c).
#[must_use]
pub fn resets_on(address: Address) -> String {
    format!("echo default > /sys/bus/pci/devices/{address}/reset_method")
}

/// vfio does a bus reset only if all affected devices belong to the same user (`vfio_pci_dev_set_resettable` in
/// drivers/vfio/pci/vfio_pci_core.c).
fn reaches_others(case: &Case<'_>, function: &Function, domain: &ResetDomain) -> Option<Finding> {
    let inventory = case.patient.inventory;
    let outside: Vec<Address> = domain
        .functions
        .iter()
        .copied()
        .filter(|hit| case.taken().all(|member| member.address != *hit))
        .filter(|hit| inventory.function(*hit).is_some_and(|other| other.kind() != Kind::Bridge))
        .collect();
    if outside.is_empty() {
        return None;
    }
    let address = function.address;
    let bridge = function.bridge().map_or_else(String::new, |bridge| format!(" below {bridge}"));
    let read = format!(
        "{address} can be reset only together with all devices{bridge}: also {}",
        listed(&outside)
    );
    let meaning = "they are not part of the hand-over, so vfio will not reset the device: a machine gets it as the \
                   previous machine left it";
    let finding = about(address, "reset", Severity::Warning, read, meaning);
    let words = "hand these over to the same machine, or move the card to a separate slot";
    Some(with_remedy(finding, words, Vec::new()))
}
