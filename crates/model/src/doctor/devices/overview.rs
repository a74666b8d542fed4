//! The overview of the whole host: the assemblies to examine, and the findings to show.

use std::collections::BTreeMap;

use super::{Case, Finding, Patient, Severity, catalog, fabric, holders, isolation, listed};
use crate::doctor::Devices;
use crate::doctor::remedy::is_rebuild;
use crate::{Address, Assembly, Code, Function, Kind};

/// Runs every check of every assembly that is usually handed over.
pub fn all(patient: Patient<'_>) -> Vec<Finding> {
    let cases = cases(patient);
    let findings = cases.iter().flat_map(|case| {
        let shown =
            case.examine().into_iter().filter_map(|finding| shown_in_overview(case, finding));
        shown.map(|finding| (case.head.address, finding)).collect::<Vec<_>>()
    });
    let mut findings = merge_alike(findings.collect());
    findings.extend(fabric::switches(patient));
    findings
}

/// The devices that are usually handed over, by whether they can be. `possible` says whether the host allows any hand-over.
pub fn sorted(patient: Patient<'_>, possible: bool) -> Devices {
    let mut devices = Devices::default();
    for case in cases(patient) {
        let mut obstacles = isolation::obstacles(&case).peekable();
        let split = obstacles.peek().is_some();
        let list = if !possible || obstacles.any(|obstacle| obstacle.code != Code::InUse) {
            &mut devices.barred
        } else if split || case.is_claimed() || holders::is_used(&case) {
            &mut devices.in_use
        } else {
            &mut devices.ready
        };
        list.push(case.head.address);
    }
    devices
}

/// One case per assembly that is usually handed over.
fn cases(patient: Patient<'_>) -> Vec<Case<'_>> {
    let assemblies = Assembly::all(patient.inventory).into_iter();
    assemblies
        .filter_map(|assembly| {
            let head = patient.inventory.function(assembly.head)?;
            wanted(head).then_some(Case { patient, assembly, head })
        })
        .collect()
}

/// GPUs, accelerators, network cards and drives. The physical function's findings cover its virtual functions.
fn wanted(function: &Function) -> bool {
    matches!(function.kind(), Kind::Gpu | Kind::Accelerator | Kind::Nic | Kind::Nvme)
        && function.physical_function.is_none()
        && !function.is_management_display()
}

/// The finding as an overview shows it, if at all. A single device that cannot be handed over is no obstacle for the
/// host, and the host's own network card and disk are normally in use.
fn shown_in_overview(case: &Case<'_>, finding: Finding) -> Option<Finding> {
    let precious = matches!(case.head.kind(), Kind::Gpu | Kind::Accelerator);
    if finding.severity == Severity::Good || !catalog::in_overview(&finding.check, precious) {
        return None;
    }
    let shared = finding.check == "group-isolation";
    // Devices of the chipset cannot be moved.
    if shared && !precious && case.head.path.is_empty() {
        return None;
    }
    let severity = match finding.severity {
        // A device is split on purpose.
        Severity::Impossible if catalog::is_split(&finding.check) => return None,
        Severity::Impossible if catalog::is_use(&finding.check) => Severity::Note,
        Severity::Impossible => Severity::Warning,
        Severity::Warning if shared && !precious => Severity::Note,
        other => other,
    };
    Some(Finding { severity, ..finding })
}

/// Merges equal findings of several devices, so that eight equal GPUs do not fill the screen.
fn merge_alike(findings: Vec<(Address, Finding)>) -> Vec<Finding> {
    let mut order: Vec<Vec<(Address, Finding)>> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (head, finding) in findings {
        let place = *places.entry(likeness(head, &finding)).or_insert(order.len());
        match order.get_mut(place) {
            Some(alike) => alike.push((head, finding)),
            None => order.push(vec![(head, finding)]),
        }
    }
    order.into_iter().filter_map(merged).collect()
}

/// The text of a finding without its slot.
fn likeness(head: Address, finding: &Finding) -> String {
    let own = head.to_string();
    let slot = own.split_once('.').map_or(own.as_str(), |(slot, _)| slot);
    let words = finding.remedy.as_ref().map_or("", |remedy| remedy.words.as_str());
    let text =
        [finding.check.as_str(), finding.read.as_str(), finding.meaning.as_str(), words].join("\n");
    format!("{:?}\n{}", finding.severity, text.replace(slot, "@"))
}

fn merged(alike: Vec<(Address, Finding)>) -> Option<Finding> {
    let mut findings = alike.into_iter();
    let (head, mut first) = findings.next()?;
    let mut others = Vec::new();
    for (other, finding) in findings {
        // One check can report the same for two members of one assembly.
        if other != head && !others.contains(&other) {
            others.push(other);
        }
        if let (Some(remedy), Some(more)) = (&mut first.remedy, finding.remedy) {
            for command in more.commands {
                if !remedy.commands.contains(&command) {
                    remedy.commands.push(command);
                }
            }
        }
    }
    if !others.is_empty() {
        first.read = format!("{}; the same for {}", first.read, listed(&others));
        if let Some(remedy) = &mut first.remedy {
            if !remedy.commands.is_empty() {
                remedy.words += "; the commands cover all of them";
                // Rebuild the initial ramdisk after all edits.
                remedy.commands.sort_by_key(|command| is_rebuild(command));
            } else if remedy.words.contains(&head.to_string()) {
                let each = if others.len() == 1 { "its address" } else { "their addresses" };
                remedy.words += &format!("; do the same for {}, with {each}", listed(&others));
            }
        }
    }
    Some(first)
}
