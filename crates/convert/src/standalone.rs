//! What of a virtual machine needs a cluster, and what to use instead.

use std::collections::BTreeSet;

use model::{Code, Refusal};
use serde_json::Value;

use crate::values::Below as _;

/// Kinds of volumes that only a cluster has: why, and what to use instead.
const REFUSED: [(&str, &str, &str); 5] = [
    (
        "dataVolume",
        "is made by a controller of the cluster (CDI)",
        "use hostDisk with an image of this host, or persistentVolumeClaim, which becomes a podman volume",
    ),
    (
        "configMap",
        "is kept by the cluster",
        "use cloudInitNoCloud or cloudInitConfigDrive with the data in it",
    ),
    (
        "secret",
        "is kept by the cluster",
        "use cloudInitNoCloud or cloudInitConfigDrive with the data in it",
    ),
    ("serviceAccount", "speaks to the cluster", "remove it"),
    ("memoryDump", "is made by the cluster", "remove it"),
];

/// Refuses what cannot run without a cluster, all of it at once.
pub fn check(name: &str, spec: &Value) -> Result<(), Refusal> {
    let mut problems = Vec::new();
    let mut remedies = BTreeSet::new();
    for volume in spec.list("volumes") {
        for (kind, why, instead) in REFUSED.iter().filter(|(kind, ..)| volume.has(kind)) {
            problems
                .push(format!("volume {} is of the kind {kind}, which {why}", volume.text("name")));
            remedies.insert(format!("for {kind}: {instead}"));
        }
    }
    for disk in spec.list("domain.devices.disks") {
        let own = disk.text("name");
        let there = spec.list("volumes").iter().any(|volume| volume.text("name") == own);
        // A CD drive may be empty.
        if !there && !disk.has("cdrom") {
            problems.push(format!("disk {own} has no volume of its name"));
            remedies.insert("name each disk as its volume".to_owned());
        }
    }
    for (path, what) in NAMED {
        let mut seen = BTreeSet::new();
        for item in spec.list(path) {
            let own = item.text("name");
            if own.is_empty() {
                problems.push(format!("a {what} has no name"));
                remedies.insert(format!("give each {what} a `name`"));
            } else if !seen.insert(own) {
                problems.push(format!("two of {path} are named {own}"));
                remedies.insert(format!("give each {what} its own name"));
            }
        }
    }
    device_names(spec, &mut problems, &mut remedies);
    if problems.is_empty() {
        return Ok(());
    }
    let remedies: Vec<String> = remedies.into_iter().collect();
    Err(Refusal::new(
        Code::InvalidRequest,
        format!("virtual machine {name}: {}", problems.join("; ")),
        remedies.join("; "),
    ))
}

/// What has a name of its own.
const NAMED: [(&str, &str); 6] = [
    ("volumes", "volume"),
    ("networks", "network"),
    ("domain.devices.disks", "disk"),
    ("domain.devices.interfaces", "interface"),
    ("domain.devices.gpus", "gpu"),
    ("domain.devices.hostDevices", "hostDevice"),
];

fn device_names(spec: &Value, problems: &mut Vec<String>, remedies: &mut BTreeSet<String>) {
    for path in ["domain.devices.gpus", "domain.devices.hostDevices"] {
        for device in spec.list(path).iter().filter(|one| one.text("deviceName").is_empty()) {
            let own = device.text("name");
            let why = if device.has("claimName") {
                "is asked for by a claim of the cluster (DRA)"
            } else {
                "has no deviceName"
            };
            problems.push(format!("device {own} {why}"));
            remedies.insert("give it a deviceName, such as nvidia.com/TESLA_P40".to_owned());
        }
    }
}

/// What a person must know of volumes that are to last; the words stand in the pod's annotation.
pub fn persistence(spec: &Value) -> Option<String> {
    let has = |kind: &str| spec.list("volumes").iter().any(|volume| volume.has(kind));
    let claims = has("persistentVolumeClaim") || has("ephemeral");
    let parts = [
        (
            claims,
            "persistentVolumeClaim: it becomes a named volume of podman, which lasts on this host, and does not go along to another",
        ),
        (
            has("hostDisk"),
            "hostDisk: the image must be on this host at the path that the machine names; with type DiskOrCreate it is made",
        ),
    ];
    let parts: Vec<&str> =
        parts.iter().filter(|(holds, _)| *holds).map(|(_, text)| *text).collect();
    (!parts.is_empty()).then(|| parts.join(" | "))
}
