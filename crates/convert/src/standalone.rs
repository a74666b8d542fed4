//! Refuses parts of a virtual machine that need a cluster, and names alternatives.

use std::collections::BTreeSet;

use model::{Code, Refusal};
use serde_json::Value;

use crate::values::Below as _;

/// Kinds of volumes that need a cluster: why, and what to use instead.
const REFUSED: [(&str, &str, &str); 5] = [
    (
        "dataVolume",
        "is created by a controller of the cluster (CDI)",
        "use hostDisk with an image of this host, or persistentVolumeClaim, which becomes a podman volume",
    ),
    (
        "configMap",
        "is stored in the cluster",
        "use cloudInitNoCloud or cloudInitConfigDrive with the data in it",
    ),
    (
        "secret",
        "is stored in the cluster",
        "use cloudInitNoCloud or cloudInitConfigDrive with the data in it",
    ),
    ("serviceAccount", "needs the cluster's API", "remove it"),
    ("memoryDump", "is created by the cluster", "remove it"),
];

/// Refuses what needs a cluster, all of it at once.
pub fn check(name: &str, spec: &Value) -> Result<(), Refusal> {
    let mut problems = Vec::new();
    let mut remedies = BTreeSet::new();
    for volume in spec.list("volumes") {
        for (kind, why, instead) in REFUSED.iter().filter(|(kind, ..)| volume.has(kind)) {
            problems.push(format!("volume {} is a {kind}, which {why}", volume.text("name")));
            remedies.insert(format!("for {kind}: {instead}"));
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

fn device_names(spec: &Value, problems: &mut Vec<String>, remedies: &mut BTreeSet<String>) {
    for path in ["domain.devices.gpus", "domain.devices.hostDevices"] {
        for device in spec.list(path).iter().filter(|one| one.text("deviceName").is_empty()) {
            let own = device.text("name");
            let why = if device.has("claimName") {
                "is requested by a claim of the cluster (DRA)"
            } else {
                "has no deviceName"
            };
            problems.push(format!("device {own} {why}"));
            remedies.insert("give it a deviceName, such as nvidia.com/TESLA_P40".to_owned());
        }
    }
}

/// The text of the pod's annotation about persistent volumes.
pub fn persistence(spec: &Value) -> Option<String> {
    let has = |kind: &str| spec.list("volumes").iter().any(|volume| volume.has(kind));
    let claims = has("persistentVolumeClaim") || has("ephemeral");
    let parts = [
        (
            claims,
            "persistentVolumeClaim: becomes a named podman volume, which persists on this host but does not move to another",
        ),
        (
            has("hostDisk"),
            "hostDisk: the image must exist on this host at the machine's path; the type DiskOrCreate creates it",
        ),
    ];
    let parts: Vec<&str> =
        parts.iter().filter(|(holds, _)| *holds).map(|(_, text)| *text).collect();
    (!parts.is_empty()).then(|| parts.join(" | "))
}
