//! The other containers: images that are pulled before the start, shared directories, consoles.

use serde_json::{Value, json};

use super::volumes::{HAS_KERNEL, KERNEL, LAUNCHER, wants_digests};
use super::{PRIVATE, Settings, USER};
use crate::instance::Instance;
use crate::overhead::{is_dedicated, is_guaranteed};
use crate::values::Below as _;

/// The init containers, and the containers that run beside the machine.
pub fn others(instance: &Instance, settings: &Settings) -> (Vec<Value>, Vec<Value>) {
    let spec = instance.spec();
    let guaranteed = is_dedicated(spec) || is_guaranteed(spec);
    let mut init = Vec::new();
    if wants_digests(instance) {
        for volume in spec.list("volumes").iter().filter(|volume| volume.has("containerDisk")) {
            let disk = &volume["containerDisk"];
            init.push(pull(volume.text("name"), disk, guaranteed));
        }
        if spec.has(HAS_KERNEL) {
            init.push(pull(
                KERNEL,
                &spec["domain"]["firmware"]["kernelBoot"]["container"],
                guaranteed,
            ));
        }
    }
    let mut beside = shared_directories(instance, settings, guaranteed);
    beside.extend(settings.console_proxy.as_ref().map(|proxy| {
        json!({
            "command": ["/console-proxy", format!("-port={}", proxy.port), "-listen=unix"],
            "image": proxy.image,
            "name": "console-proxy",
            "resources": {},
            "securityContext": { "capabilities": { "drop": ["ALL"] } },
            "volumeMounts": [{ "mountPath": PRIVATE, "name": "private" }],
        })
    }));
    let attached = spec.switch("domain.devices.autoattachSerialConsole") != Some(false);
    if attached && spec.switch("domain.devices.logSerialConsole") == Some(true) {
        beside.push(console_log(instance, settings, guaranteed));
    }
    (init, beside)
}

fn security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "runAsNonRoot": true,
        "runAsUser": USER,
    })
}

/// Runs an image once, so that it is pulled before the launcher opens its disk.
fn pull(name: &str, disk: &Value, guaranteed: bool) -> Value {
    let (cpu, memory) = if guaranteed { ("10m", "40M") } else { ("1m", "1M") };
    let mut container = json!({
        "args": ["--no-op"],
        "command": ["/container-disk-binary/usr/bin/container-disk"],
        "image": disk.text("image"),
        "name": format!("volume{name}"),
        "resources": {
            "limits": { "cpu": "10m", "memory": "40M" },
            "requests": { "cpu": cpu, "ephemeral-storage": "50M", "memory": memory },
        },
        "securityContext": security(),
        "volumeMounts": [
            { "mountPath": "/container-disk-binary", "name": LAUNCHER, "readOnly": true },
        ],
    });
    if !disk.text("imagePullPolicy").is_empty() {
        container["imagePullPolicy"] = disk["imagePullPolicy"].clone();
    }
    container
}

/// virtiofsd for each volume that is a file system in the guest (KubeVirt, virtiofs.go).
fn shared_directories(instance: &Instance, settings: &Settings, guaranteed: bool) -> Vec<Value> {
    let spec = instance.spec();
    let systems: Vec<&str> =
        spec.list("domain.devices.filesystems").iter().map(|one| one.text("name")).collect();
    let volumes = spec.list("volumes").iter();
    let shared =
        volumes.filter(|one| systems.contains(&one.text("name")) && !one.has("containerPath"));
    shared.map(|volume| virtiofsd(volume, settings, guaranteed)).collect()
}

fn virtiofsd(volume: &Value, settings: &Settings, guaranteed: bool) -> Value {
    let name = volume.text("name");
    let directory = if volume.has("downwardAPI") {
        format!("{PRIVATE}/downwardapi/{name}")
    } else {
        format!("/{name}")
    };
    let mut user = security();
    user["runAsGroup"] = USER.into();
    let (cpu, memory) = if guaranteed { ("100m", "80M") } else { ("10m", "1M") };
    json!({
        "args": [
            format!("--socket-path=/var/run/kubevirt/virtiofs-containers/{name}.sock"),
            format!("--shared-dir={directory}"),
            "--sandbox=none",
            "--cache=auto",
            "--migration-on-error=guest-error",
            "--migration-mode=find-paths",
        ],
        "command": ["/usr/libexec/virtiofsd"],
        "image": settings.launcher_image,
        "imagePullPolicy": "IfNotPresent",
        "name": format!("virtiofs-{name}"),
        "resources": {
            "limits": { "cpu": "100m", "memory": "80M" },
            "requests": { "cpu": cpu, "memory": memory },
        },
        "securityContext": user,
        "volumeMounts": [
            { "mountPath": "/var/run/kubevirt/virtiofs-containers", "name": "virtiofs-containers" },
            { "mountPath": directory, "name": name },
        ],
    })
}

/// Prints the guest's first serial port. In a cluster it is an init container that keeps running, which podman does not
/// support.
fn console_log(instance: &Instance, settings: &Settings, guaranteed: bool) -> Value {
    let (cpu, memory) = if guaranteed { ("15m", "60M") } else { ("5m", "35M") };
    let level = instance.label("logVerbosity").unwrap_or("2");
    json!({
        // The directory is named after the instance's uid, which is empty here.
        "args": ["--logfile", format!("{PRIVATE}//virt-serial0-log")],
        "command": ["/usr/bin/virt-tail"],
        "env": [{ "name": "VIRT_LAUNCHER_LOG_VERBOSITY", "value": level }],
        "image": settings.launcher_image,
        "imagePullPolicy": "IfNotPresent",
        "name": "guest-console-log",
        "resources": {
            "limits": { "cpu": "15m", "memory": "60M" },
            "requests": { "cpu": cpu, "memory": memory },
        },
        "securityContext": security(),
        "volumeMounts": [{ "mountPath": PRIVATE, "name": "private", "readOnly": true }],
    })
}
