//! GPUs joined by NVLink, and the sets that NVSwitch can separate.

use super::{Case, Finding, Patient, Severity, about, listed, with_remedy};
use crate::{Address, Function, Kind, Role};

const NVIDIA: u16 = 0x10de;

/// An NVSwitch has the class "other bridge", but is no PCI bridge.
fn is_nvswitch(function: &Function) -> bool {
    function.vendor.0 == NVIDIA && function.class.prefix() == 0x0680
}

fn nvswitches(patient: Patient<'_>) -> Vec<Address> {
    patient.inventory.functions.values().filter(|f| is_nvswitch(f)).map(|f| f.address).collect()
}

/// The host's NVSwitches, as one finding.
pub fn switches(patient: Patient<'_>) -> Option<Finding> {
    let switches = nvswitches(patient);
    let first = *switches.first()?;
    let gpus = patient.inventory.functions.values().filter(|function| is_gpu(function)).count();
    let read =
        format!("{} NVSwitches ({}) and {gpus} NVIDIA GPUs", switches.len(), listed(&switches));
    let finding = about(first, "fabric", Severity::Note, read, PARTITIONS);
    Some(with_remedy(finding, PARTITION_WORDS, Vec::new()))
}

const PARTITIONS: &str = "hand over GPUs in sets that the NVSwitches can separate (Fabric Manager's partitions: one, \
                          two, four or all eight GPUs of a board); CUDA does not start in a machine whose partition is \
                          not activated";

const PARTITION_WORDS: &str = "run NVIDIA Fabric Manager in its shared-NVSwitch mode (FABRIC_MODE=1 in \
                               /usr/share/nvidia/nvswitch/fabricmanager.cfg), and install fmpm: \
                               Handover then chooses whole partitions, and activates them (docs/claims.md)";

fn is_gpu(function: &Function) -> bool {
    function.vendor.0 == NVIDIA
        && function.kind() == Kind::Gpu
        && function.physical_function.is_none()
}

/// Whether the assembly's GPU is joined to others. An overview reports this once for the host (see [`switches`]).
pub fn joined(case: &Case<'_>) -> Vec<Finding> {
    let head = case.head;
    if !is_gpu(head) && !is_nvswitch(head) {
        return Vec::new();
    }
    let switches = nvswitches(case.patient);
    let held: Vec<Address> = case
        .assembly
        .members
        .iter()
        .filter(|member| member.role == Role::Held && switches.contains(&member.address))
        .map(|member| member.address)
        .collect();
    if !held.is_empty() {
        let read = format!("{} in its IOMMU group are NVSwitches", listed(&held));
        let meaning = "the hand-over takes them too, and all other GPUs lose NVLink";
        let finding = case.finding("fabric", Severity::Warning, read, meaning);
        let words = "hand over all GPUs and switches of the board to one machine, or enable ACS, so that each has its \
                     own group";
        return vec![with_remedy(finding, words, Vec::new())];
    }
    if is_nvswitch(head) {
        let read = format!("{} is an NVSwitch", head.address);
        let meaning = "without it the GPUs of its board lose NVLink; hand it over only with all of them, or to a \
                       service machine that runs Fabric Manager";
        return vec![case.finding("fabric", Severity::Warning, read, meaning)];
    }
    if !switches.is_empty() {
        let read = format!("the host has {} NVSwitches", switches.len());
        return vec![with_remedy(
            case.finding("fabric", Severity::Note, read, PARTITIONS),
            PARTITION_WORDS,
            Vec::new(),
        )];
    }
    on_a_board(case).into_iter().collect()
}

/// An SXM board whose switches are no PCI functions of the host, or one whose four GPUs are connected directly.
fn on_a_board(case: &Case<'_>) -> Option<Finding> {
    let name = case.head.device_name.as_deref().filter(|name| name.contains("SXM"))?;
    let inventory = case.patient.inventory;
    let others = inventory
        .functions
        .values()
        .filter(|f| is_gpu(f) && f.address != case.head.address)
        .count();
    (others > 0).then(|| {
        let read = format!("{} is a {name}, one of {} GPUs", case.head.address, others + 1);
        let meaning = "SXM boards join their GPUs by NVLink: in a machine with only some of them, CUDA may wait for \
                       the others";
        case.finding("fabric", Severity::Note, read, meaning)
    })
}
