//! The compute container, in which the launcher runs the machine.

use serde_json::{Map, Value, json};

use super::volumes::Volumes;
use super::{PRIVATE, Settings, USER, grace_seconds};
use crate::devices::Devices;
use crate::instance::Instance;
use crate::values::Below as _;

/// How long the launcher waits for QEMU. A cluster adds up to two random minutes to spread its load; here the output is
/// deterministic.
const QEMU_TIMEOUT: &str = "240s";

/// The memory limit for inspecting a disk image, in bytes.
const DISK_MEMORY_LIMIT: &str = "2097152000";

/// libvirt takes about ten seconds to start (KubeVirt's `LibvirtStartupDelay`).
const LIBVIRT_SECONDS: i64 = 10;

/// The compute container.
pub fn container(
    instance: &Instance,
    settings: &Settings,
    devices: &Devices,
    volumes: &Volumes,
    resources: Value,
) -> Value {
    let mut container = json!({
        "args": arguments(instance),
        "command": ["/usr/bin/virt-launcher-monitor"],
        "env": environment(instance, devices),
        "image": settings.launcher_image,
        "imagePullPolicy": "IfNotPresent",
        "name": "compute",
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_BIND_SERVICE"], "drop": ["ALL"] },
            "runAsGroup": USER,
            "runAsNonRoot": true,
            "runAsUser": USER,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volumes.mounts,
    });
    let ports = ports(instance.spec());
    if !ports.is_empty() {
        container["ports"] = ports.into();
    }
    for name in ["livenessProbe", "readinessProbe"] {
        if let Some(probe) = instance.spec().get(name) {
            container[name] = self::probe(instance, probe);
        }
    }
    container
}

fn arguments(instance: &Instance) -> Vec<String> {
    let spec = instance.spec();
    let grace = grace_seconds(spec).to_string();
    let ovmf = match spec.text("architecture") {
        "arm64" => "/usr/share/AAVMF",
        "s390x" => "",
        _ => "/usr/share/edk2/ovmf",
    };
    let named = [
        ("--qemu-timeout", QEMU_TIMEOUT),
        ("--name", instance.name()),
        ("--uid", ""),
        ("--namespace", instance.namespace()),
        ("--kubevirt-share-dir", "/var/run/kubevirt"),
        ("--ephemeral-disk-dir", "/var/run/kubevirt-ephemeral-disks"),
        ("--container-disk-dir", "/var/run/kubevirt/container-disks"),
        ("--grace-period-seconds", &grace),
        ("--hook-sidecars", "0"),
        ("--ovmf-path", ovmf),
        ("--disk-memory-limit", DISK_MEMORY_LIMIT),
        ("--hypervisor", "kvm"),
    ];
    let mut all: Vec<String> =
        named.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect();
    let switches = ["--run-as-nonroot", "--image-volume", "--upgrade-ordinal-ifaces"];
    all.extend(switches.map(str::to_owned));
    if let Some(filters) = instance.annotation("kubevirt.io/libvirt-log-filters") {
        all.extend(["--libvirt-log-filters".to_owned(), filters.to_owned()]);
    }
    let keep = instance.annotation("kubevirt.io/keep-launcher-alive-after-failure");
    if keep.is_some_and(|keep| keep.is_empty() || keep.starts_with("true")) {
        all.push("--keep-after-failure".to_owned());
    }
    all
}

fn environment(instance: &Instance, devices: &Devices) -> Vec<Value> {
    let pair = |name: &str, value: &str| json!({ "name": name, "value": value });
    let mut all = vec![
        pair("XDG_CACHE_HOME", PRIVATE),
        pair("XDG_CONFIG_HOME", PRIVATE),
        pair("XDG_RUNTIME_DIR", "/var/run"),
    ];
    // Labels for debugging KubeVirt.
    let verbosity = instance.label("logVerbosity").filter(|text| text.parse::<u32>().is_ok());
    let loud = verbosity.and_then(|text| text.parse::<u32>().ok()).is_some_and(|level| level > 5);
    let on = |label: &str| {
        loud || instance.label(label).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    };
    all.extend(verbosity.map(|level| pair("VIRT_LAUNCHER_LOG_VERBOSITY", level)));
    all.extend(on("debugLogs").then(|| pair("LIBVIRT_DEBUG_LOGS", "1")));
    all.extend(on("virtiofsdDebugLogs").then(|| pair("VIRTIOFSD_DEBUG_LOGS", "1")));
    let name = json!({ "fieldRef": { "fieldPath": "metadata.name" } });
    all.push(json!({ "name": "POD_NAME", "valueFrom": name }));
    all.push(pair("STANDALONE_VMI", &instance.object.to_string()));
    let libvirt = "qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock";
    all.push(pair("VIRSH_DEFAULT_CONNECT_URI", libvirt));
    all.extend(devices.env.iter().map(|(name, value)| pair(name, value)));
    all
}

fn ports(spec: &Value) -> Vec<Value> {
    let interfaces = spec.list("domain.devices.interfaces").iter();
    interfaces
        .flat_map(|interface| interface.list("ports"))
        .map(|port| {
            let mut all = Map::new();
            all.insert("containerPort".into(), port.number("port").into());
            let protocol = port.text("protocol");
            let protocol = if protocol.is_empty() { "TCP" } else { protocol };
            all.insert("protocol".into(), protocol.into());
            if !port.text("name").is_empty() {
                all.insert("name".into(), port.text("name").into());
            }
            Value::Object(all)
        })
        .collect()
}

/// Converts a probe of the guest to a probe of the container: commands and pings use the guest agent.
fn probe(instance: &Instance, probe: &Value) -> Value {
    let mut all = probe.clone();
    let timeout = probe.number("timeoutSeconds");
    let seconds = timeout.to_string();
    let domain = format!("{}_{}", instance.namespace(), instance.name());
    let front = ["virt-probe", "--domainName", &domain, "--timeoutSeconds", &seconds];
    let mut command: Vec<&str> = front.to_vec();
    let given: Vec<&str> = probe.list("exec.command").iter().filter_map(Value::as_str).collect();
    if probe.has("guestAgentPing") {
        command.push("--guestAgentPing");
    } else if let Some((program, rest)) =
        given.split_first().filter(|(one, _)| **one != "virt-probe")
    {
        command.extend(["--command", *program, "--"]);
        command.extend(rest);
    }
    if command.len() > front.len() {
        all.set("exec.command", json!(command));
        // The guest agent adds a delay.
        all.set("timeoutSeconds", timeout.saturating_add(1));
    }
    if let Some(all) = all.as_object_mut() {
        all.remove("guestAgentPing");
    }
    let delay = probe.number("initialDelaySeconds").saturating_add(LIBVIRT_SECONDS);
    all.set("initialDelaySeconds", delay);
    all
}
