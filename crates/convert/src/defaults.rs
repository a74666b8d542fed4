//! KubeVirt's defaults (pkg/defaults, and those of its API in core/v1/defaults.go), for an unconfigured cluster.

use serde_json::{Map, Value, json};

use crate::quantity::Quantity;
use crate::values::Below as _;

/// Fills in the defaults of an instance's `spec`.
pub fn apply(spec: &mut Value) {
    spec.make_object("domain");
    spec.make_object("domain.resources");
    spec.make_object("domain.devices");
    let architecture = spec.text("architecture").to_owned();
    spec.set_default("domain.machine.type", machine_type(&architecture));
    cpu_request(spec);
    guest_memory(spec);
    topology(spec);
    pull_policies(spec);
    // KubeVirt's default for a cluster without configuration.
    spec.set_default("evictionStrategy", "None");
    crate::network::default_interface(spec);
    volume_disks(spec);
    features(spec, &architecture);
    clock(spec);
    disks(spec, &architecture);
    for input in spec.items("domain.devices.inputs") {
        input.set_default("bus", "usb");
        input.set_default("type", "tablet");
    }
    probe(spec, "readinessProbe");
    probe(spec, "livenessProbe");
    crate::hyperv::apply(spec);
    by_architecture(spec, &architecture);
    spec.set_default("domain.cpu.model", "host-model");
    if architecture != "arm64" {
        hotplug(spec, &architecture);
    }
}

fn machine_type(architecture: &str) -> &'static str {
    match architecture {
        "arm64" => "virt",
        "s390x" => "s390-ccw-virtio",
        _ => "q35",
    }
}

/// A limit without a request is also the request.
fn cpu_request(spec: &mut Value) {
    let limit = spec.quantity("domain.resources.limits.cpu").unwrap_or(Quantity::ZERO);
    let request = spec.quantity("domain.resources.requests.cpu").unwrap_or(Quantity::ZERO);
    if !limit.is_zero() && request.is_zero() {
        spec.set("domain.resources.requests.cpu", limit.to_string());
    }
}

fn guest_memory(spec: &mut Value) {
    spec.make_object("domain.memory");
    if spec.has("domain.memory.guest") {
        return;
    }
    let from = [
        "domain.resources.requests.memory",
        "domain.resources.limits.memory",
        "domain.memory.hugepages.pageSize",
    ];
    let found = from.iter().filter_map(|path| spec.quantity(path)).find(|one| !one.is_zero());
    if let Some(memory) = found {
        spec.set("domain.memory.guest", memory.to_string());
    }
}

fn topology(spec: &mut Value) {
    let set = ["cores", "sockets", "threads"]
        .iter()
        .any(|field| spec.number(&format!("domain.cpu.{field}")) != 0);
    if set {
        return;
    }
    let limit = spec.quantity("domain.resources.limits.cpu");
    let cpus = limit.or_else(|| spec.quantity("domain.resources.requests.cpu"));
    // Sockets perform best (KubeVirt cites bugzilla.redhat.com 1653453).
    spec.set("domain.cpu.sockets", cpus.map_or(1, Quantity::value));
    spec.set("domain.cpu.cores", 1);
    spec.set("domain.cpu.threads", 1);
}

fn pull_policies(spec: &mut Value) {
    for volume in spec.items("volumes").iter_mut().filter(|volume| volume.has("containerDisk")) {
        let image = volume.text("containerDisk.image");
        let latest = image.ends_with(":latest") || !image.contains([':', '@']);
        let policy = if latest { "Always" } else { "IfNotPresent" };
        volume.set_default("containerDisk.imagePullPolicy", policy);
    }
}

/// A volume without a disk or filesystem becomes a disk.
pub fn volume_disks(spec: &mut Value) {
    let named: Vec<String> = ["domain.devices.disks", "domain.devices.filesystems"]
        .iter()
        .flat_map(|path| spec.list(path))
        .map(|item| item.text("name").to_owned())
        .collect();
    let volumes = spec.list("volumes").iter().map(|volume| volume.text("name").to_owned());
    let missing: Vec<String> = volumes.filter(|name| !named.contains(name)).collect();
    for name in missing {
        spec.push("domain.devices.disks", json!({ "name": name }));
    }
}

fn features(spec: &mut Value, architecture: &str) {
    // s390x has no ACPI.
    spec.set_default("domain.features.acpi.enabled", architecture != "s390x");
    for name in ["apic", "smm", "pvspinlock"] {
        enable(spec, &format!("domain.features.{name}"));
    }
    let hyperv = spec.at("domain.features.hyperv").and_then(Value::as_object);
    let names: Vec<String> = hyperv.into_iter().flat_map(Map::keys).cloned().collect();
    for name in names.iter().filter(|name| *name != "passthrough") {
        let path = format!("domain.features.hyperv.{name}");
        enable(spec, &path);
        enable(spec, &format!("{path}.direct"));
        enable(spec, &format!("{path}.extended"));
    }
    const SPINLOCKS: &str = "domain.features.hyperv.spinlocks";
    if spec.switch(&format!("{SPINLOCKS}.enabled")) == Some(true) {
        spec.set_default(&format!("{SPINLOCKS}.spinlocks"), 4096);
    }
}

/// A present feature without a value is enabled.
fn enable(spec: &mut Value, path: &str) {
    if spec.at(path).is_some_and(Value::is_object) {
        spec.set_default(&format!("{path}.enabled"), true);
    }
}

fn clock(spec: &mut Value) {
    for (timer, field) in [
        ("hpet", "present"),
        ("kvm", "present"),
        ("pit", "present"),
        ("rtc", "present"),
        ("hyperv", "present"),
    ] {
        let path = format!("domain.clock.timer.{timer}");
        if spec.has(&path) {
            spec.set_default(&format!("{path}.{field}"), true);
        }
    }
}

fn disks(spec: &mut Value, architecture: &str) {
    // Guests support SATA without extra drivers; arm64 and s390x have none.
    let bus = if matches!(architecture, "arm64" | "s390x") { "virtio" } else { "sata" };
    for disk in spec.items("domain.devices.disks") {
        let target = ["disk", "cdrom", "lun"].into_iter().find(|target| disk.has(target));
        disk.make_object(target.unwrap_or("disk"));
        disk.set_default(&format!("{}.bus", target.unwrap_or("disk")), bus);
        if target == Some("cdrom") {
            disk.set_default("cdrom.readonly", true);
            disk.set_default("cdrom.tray", "closed");
        }
        enable(disk, "blockSize.matchVolume");
    }
    for gpu in spec.items("domain.devices.gpus") {
        enable(gpu, "virtualGPUOptions.display.ramFB");
    }
}

fn probe(spec: &mut Value, path: &str) {
    if !spec.has(path) {
        return;
    }
    let probe = spec.make(path);
    for (field, least) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.number(field) < 1 {
            probe.set(field, least);
        }
    }
}

fn by_architecture(spec: &mut Value, architecture: &str) {
    const SECURE: &str = "domain.firmware.bootloader.efi.secureBoot";
    if architecture == "arm64" {
        spec.set_default("domain.cpu.model", "host-passthrough");
        spec.make_object("domain.firmware");
        if !spec.has("domain.firmware.bootloader") {
            spec.make_object("domain.firmware.bootloader.efi");
        }
        if spec.has("domain.firmware.bootloader.efi") {
            spec.set_default(SECURE, false);
        }
        return;
    }
    if spec.has("domain.devices.watchdog") {
        let model = if architecture == "s390x" { "diag288" } else { "i6300esb" };
        spec.set_default(&format!("domain.devices.watchdog.{model}.action"), "reset");
    }
}

/// Room for hot-plugging CPUs and memory (`vmRolloutStrategy: LiveUpdate`, up to four times as much).
fn hotplug(spec: &mut Value, architecture: &str) {
    const RATIO: i64 = 4;
    const MOST_VCPUS: i64 = 512;
    let count = |field: &str| spec.number(&format!("domain.cpu.{field}")).clamp(0, 1 << 20);
    let (sockets, of_one) = (count("sockets"), count("cores").saturating_mul(count("threads")));
    if spec.number("domain.cpu.maxSockets") == 0 {
        let most = sockets * RATIO;
        let most = if most.saturating_mul(of_one) > MOST_VCPUS && of_one > 0 {
            (MOST_VCPUS / of_one).max(sockets)
        } else {
            most
        };
        if most > 0 {
            spec.set("domain.cpu.maxSockets", most);
        }
    }
    if let Some(most) = pluggable_memory(spec, RATIO).filter(|_| architecture == "amd64") {
        spec.set_default("domain.memory.maxGuest", most.to_string());
    }
}

/// The maximum memory for hot-plugging; `None` if not possible (KubeVirt, pkg/liveupdate/memory).
fn pluggable_memory(spec: &Value, ratio: i64) -> Option<Quantity> {
    let in_the_way =
        ["domain.cpu.realtime", "domain.cpu.numa.guestMappingPassthrough", "domain.launchSecurity"];
    if in_the_way.iter().any(|path| spec.has(path)) {
        return None;
    }
    let huge = spec.text("domain.memory.hugepages.pageSize") == "1Gi";
    let block: i64 = if huge { 1 << 30 } else { 2 << 20 };
    let guest = spec.quantity("domain.memory.guest")?.value();
    let possible = guest >= 1 << 30 && guest % block == 0;
    possible.then(|| guest.checked_mul(ratio)).flatten().map(Quantity::binary)
}
