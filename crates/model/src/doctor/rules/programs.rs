//! Programs that use GPUs, and the managers of vGPUs and NVSwitch.

use super::super::remedy::load_at_boot;
use super::super::{Finding, Patient, Process, Purpose, Remedy, purpose};
use super::{good, note, warning};
use crate::{Function, Id, Kind};

const NVIDIA: Id = Id(0x10de);
/// Bridge, other: the class of an NVSwitch.
const OTHER_BRIDGE: u32 = 0x0680;

pub fn running(patient: Patient<'_>) -> Vec<Finding> {
    let gpus = patient.inventory.functions.values().any(|function| function.kind() == Kind::Gpu);
    if !gpus {
        return Vec::new();
    }
    let of = |wanted: Purpose| {
        let all = patient.platform.processes.iter();
        all.filter(move |process| purpose(&process.name) == Some(wanted)).collect::<Vec<_>>()
    };
    let groups = [
        (
            of(Purpose::Display),
            "a desktop keeps its GPUs open, and ends if one of them is removed",
            "hand over a GPU without a screen, or boot without a desktop: systemctl set-default multi-user.target",
        ),
        (
            of(Purpose::RemoteDesktop),
            "a remote desktop encodes on a GPU and keeps it open",
            "stop it before that GPU is handed over",
        ),
        (
            of(Purpose::Persistence),
            "it keeps every NVIDIA GPU open, even idle ones",
            "switch it off for one GPU at a time: nvidia-smi -i ADDRESS -pm 0",
        ),
        (
            of(Purpose::Monitor),
            "it keeps GPUs open to monitor them, and can block unbinding NVIDIA's driver",
            "stop it while GPUs are handed over or returned",
        ),
    ];
    let findings: Vec<Finding> = groups
        .into_iter()
        .filter(|(processes, ..)| !processes.is_empty())
        .map(|(processes, meaning, words)| {
            note(format!("{} runs", names(&processes)), meaning).with_remedy(Remedy::words(words))
        })
        .collect();
    if findings.is_empty() {
        let read = "no display server, remote desktop or NVIDIA daemon runs";
        return vec![good(read, "no such program keeps a GPU open")];
    }
    findings
}

pub fn vgpu_manager(patient: Patient<'_>) -> Vec<Finding> {
    let modules = &patient.platform.modules;
    let Some(manager) = modules.get("nvidia_vgpu_vfio") else { return Vec::new() };
    if manager.loaded {
        let version = manager
            .version
            .as_deref()
            .or(modules.get("nvidia").and_then(|nvidia| nvidia.version.as_deref()));
        let version = version.map(|version| format!(", version {version}")).unwrap_or_default();
        let read = format!("nvidia_vgpu_vfio is loaded{version}");
        return vec![good(read, "NVIDIA GPUs can be split into vGPUs")];
    }
    if !patient.inventory.functions.values().any(is_gpu_of_nvidia) {
        return Vec::new();
    }
    let read = "nvidia_vgpu_vfio is available, but not loaded";
    let meaning = "NVIDIA's vGPU manager is installed, but no vGPU can be created";
    vec![warning(read, meaning).with_remedy(load_at_boot(patient.platform, &["nvidia_vgpu_vfio"]))]
}

pub fn fabric_manager(patient: Patient<'_>) -> Vec<Finding> {
    let functions = patient.inventory.functions.values();
    let switches =
        functions.filter(|one| one.vendor == NVIDIA && one.class.prefix() == OTHER_BRIDGE).count();
    if switches == 0 {
        return Vec::new();
    }
    let processes = patient.platform.processes.iter();
    let managers: Vec<&Process> =
        processes.filter(|process| purpose(&process.name) == Some(Purpose::Fabric)).collect();
    let seen = format!("{switches} NVSwitch function{}", if switches == 1 { "" } else { "s" });
    if !managers.is_empty() {
        let read = format!("{seen}; {} runs", names(&managers));
        return vec![good(read, "the fabric between GPUs can be set up for machines")];
    }
    let read = format!("{seen}; no nv-fabricmanager runs");
    let meaning = "GPUs behind NVSwitch cannot work together, on the host or in a machine, until Fabric Manager has \
                   set them up (on the host, or in a service machine that has the switches)";
    let remedy = Remedy::now(
        "start it now and at every boot (package nvidia-fabricmanager, in the driver's version)",
        &["systemctl enable --now nvidia-fabricmanager.service"],
    );
    vec![warning(read, meaning).with_remedy(remedy)]
}

fn is_gpu_of_nvidia(function: &Function) -> bool {
    function.vendor == NVIDIA && function.kind() == Kind::Gpu
}

/// `Xorg (pid 812, gdm.service)`, and how many more.
fn names(processes: &[&Process]) -> String {
    const SHOWN: usize = 4;
    let mut shown: Vec<String> = processes
        .iter()
        .take(SHOWN)
        .map(|Process { name, pid, unit }| match unit {
            Some(unit) => format!("{name} (pid {pid}, {unit})"),
            None => format!("{name} (pid {pid})"),
        })
        .collect();
    if processes.len() > SHOWN {
        shown.push(format!("{} more", processes.len() - SHOWN));
    }
    shown.join(", ")
}
