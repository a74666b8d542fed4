//! The overview of the whole host: the assemblies to examine, and the findings to show.

use std::collections::BTreeMap;

use super::{Case, Finding, Patient, Severity, catalog, fabric, holders, isolation, listed};
use crate::doctor::Devices;
use crate::doctor::remedy::{added_together, is_rebuild};
use crate::{Address, Assembly, Code, Function, Kind};

/// Runs every check of every assembly that is usually handed over.
pub fn all(patient: Patient<'_>) -> Vec<Finding> {
    let cases = cases(patient);
    let findings = cases.iter().flat_map(|case| {
        let mut told = false;
        let findings = case.examine().into_iter();
        // The host's own disk can have many users: one of them says why it is in use.
        let once = findings.filter(move |finding| {
            let use_of_host = catalog::is_use(&finding.check) && !is_precious(case);
            !use_of_host
                || finding.severity == Severity::Good
                || !std::mem::replace(&mut told, true)
        });
        let shown = once.filter_map(|finding| shown_in_overview(case, finding));
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
        } else if split && has_free_part(&case) {
            &mut devices.in_parts
        } else if split || case.is_claimed() || holders::is_used(&case) {
            &mut devices.in_use
        } else {
            &mut devices.ready
        };
        list.push(case.head.address);
    }
    devices
}

/// Whether a claim could have a partition of the device: a virtual function, an existing mediated device, or a new one.
fn has_free_part(case: &Case<'_>) -> bool {
    let Patient { holders, own, .. } = case.patient;
    let is_free = |address: &Address| {
        let Some(part) = Case::of(case.patient, *address) else { return false };
        let vgpu = part.head.vgpu().is_some_and(|types| !types.creatable.is_empty());
        let free = part.can_go() || vgpu;
        free && !part.is_claimed() && !holders::is_used(&part)
    };
    let of_claims = |uuid| {
        let parts = own.claims.iter().flat_map(|existing| &existing.claim.parts);
        parts.filter_map(|part| part.partition.as_ref()?.mdev()).any(|claimed| claimed == uuid)
    };
    let held = |uuid| holders.iter().any(|holder| holder.mdev == Some(uuid));
    case.taken().any(|function| {
        let mdevs = function.mdevs.iter().map(|mdev| mdev.uuid);
        let types = function.detail.as_deref().map(|detail| detail.mdev_types.as_slice());
        let room = types.unwrap_or_default().iter().any(|one| one.available.is_some_and(|n| n > 0));
        function.virtual_functions().iter().any(is_free)
            || mdevs.into_iter().any(|uuid| !of_claims(uuid) && !held(uuid))
            || room
    })
}

/// One case per assembly that is usually handed over.
fn cases(patient: Patient<'_>) -> Vec<Case<'_>> {
    let assemblies = Assembly::all(patient.inventory).into_iter();
    assemblies
        .filter_map(|assembly| {
            let head = patient.inventory.function(assembly.head)?;
            wanted(patient, head).then_some(Case { patient, assembly, head })
        })
        .collect()
}

/// GPUs, accelerators, network cards and drives. The physical function's findings cover its virtual functions, and those of a
/// controller (VMD) the drives that exist only by it.
fn wanted(patient: Patient<'_>, function: &Function) -> bool {
    let kinds = [Kind::Gpu, Kind::Accelerator, Kind::Nic, Kind::Nvme];
    let has_drives = || {
        let mut all = patient.inventory.functions.values();
        all.any(|other| other.behind == Some(function.address) && kinds.contains(&other.kind()))
    };
    (kinds.contains(&function.kind()) || has_drives())
        && function.exists_by().is_none()
        && !function.is_management_display()
}

fn is_precious(case: &Case<'_>) -> bool {
    matches!(case.head.kind(), Kind::Gpu | Kind::Accelerator)
}

/// The finding as an overview shows it, if at all. A single device that cannot be handed over is no obstacle for the
/// host, and the host's own network card and disk are normally in use: each finding gives its reason.
fn shown_in_overview(case: &Case<'_>, finding: Finding) -> Option<Finding> {
    let precious = is_precious(case);
    if finding.severity == Severity::Good || !catalog::in_overview(&finding.check, precious) {
        return None;
    }
    let shared = finding.check == "group-isolation";
    // Devices of the chipset cannot be moved.
    if shared && !precious && case.head.path.is_empty() {
        return None;
    }
    if !precious && finding.severity == Severity::Impossible && catalog::is_use(&finding.check) {
        // Why it cannot be handed over at all matters more; how to end the use is told on request.
        let finding = Finding { severity: Severity::Note, remedy: None, ..finding };
        return case.can_go().then_some(finding);
    }
    let severity = match finding.severity {
        // A device is split on purpose.
        Severity::Impossible if catalog::is_split(&finding.check) => Severity::Note,
        Severity::Impossible if catalog::is_use(&finding.check) || !precious => Severity::Note,
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

/// Adds a command that is not there yet.
fn add(commands: &mut Vec<String>, command: String) {
    if commands.contains(&command) {
        return;
    }
    for known in &mut *commands {
        if let Some(both) = added_together(known, &command) {
            *known = both;
            return;
        }
    }
    commands.push(command);
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
            more.commands.into_iter().for_each(|command| add(&mut remedy.commands, command));
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
