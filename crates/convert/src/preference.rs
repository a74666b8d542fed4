//! Preferences: a guest's preferred devices, where its machine does not set them (KubeVirt,
//! pkg/instancetype/preference).

use serde_json::{Value, json};

use crate::values::Below as _;

/// Switches of automatically attached devices; applied before any device is added.
const AUTOATTACH: [(&str, &str); 5] = [
    ("preferredAutoattachGraphicsDevice", "autoattachGraphicsDevice"),
    ("preferredAutoattachMemBalloon", "autoattachMemBalloon"),
    ("preferredAutoattachPodInterface", "autoattachPodInterface"),
    ("preferredAutoattachSerialConsole", "autoattachSerialConsole"),
    ("preferredAutoattachInputDevice", "autoattachInputDevice"),
];

/// Fields that are set if the machine does not set them: in the preference, and in the instance.
const DEFAULTS: [(&str, &str); 16] = [
    ("devices.preferredUseVirtioTransitional", "domain.devices.useVirtioTransitional"),
    ("devices.preferredBlockMultiQueue", "domain.devices.blockMultiQueue"),
    ("devices.preferredNetworkInterfaceMultiQueue", "domain.devices.networkInterfaceMultiqueue"),
    ("devices.preferredRng", "domain.devices.rng"),
    ("devices.preferredTPM", "domain.devices.tpm"),
    ("devices.preferredVideoType", "domain.devices.video.type"),
    ("features.preferredApic", "domain.features.apic"),
    ("features.preferredKvm", "domain.features.kvm"),
    ("features.preferredPvspinlock", "domain.features.pvspinlock"),
    ("features.preferredSmm", "domain.features.smm"),
    ("machine.preferredMachineType", "domain.machine.type"),
    ("clock.preferredTimer", "domain.clock.timer"),
    ("preferredSubdomain", "subdomain"),
    ("preferredTerminationGracePeriodSeconds", "terminationGracePeriodSeconds"),
    ("preferredArchitecture", "architecture"),
    ("preferredLaunchSecurity", "domain.launchSecurity"),
];

/// Fields that replace the machine's: KubeVirt cannot tell whether the user set these.
const REPLACED: [(&str, &str); 2] = [
    ("devices.preferredDisableHotplug", "domain.devices.disableHotplug"),
    ("features.preferredAcpi", "domain.features.acpi"),
];

/// Applies the switches of automatically attached devices.
pub fn autoattach(preference: &Value, spec: &mut Value) {
    for (theirs, own) in AUTOATTACH {
        if let Some(value) = preference.at(&format!("devices.{theirs}")) {
            spec.set_default(&format!("domain.devices.{own}"), value.clone());
        }
    }
}

/// Applies the `spec` of a preference to the `spec` of an instance.
pub fn apply(preference: &Value, spec: &mut Value) {
    cpu_features(preference, spec);
    for (theirs, own) in DEFAULTS {
        if let Some(value) = preference.at(theirs) {
            spec.set_default(own, value.clone());
        }
    }
    for (theirs, own) in REPLACED {
        if let Some(value) = preference.at(theirs) {
            spec.set(own, value.clone());
        }
    }
    for (name, value) in preference.entries("features.preferredHyperv") {
        spec.set_default(&format!("domain.features.hyperv.{name}"), value.clone());
    }
    clock_offset(preference, spec);
    firmware(preference, spec);
    let Some(devices) = preference.at("devices") else { return };
    sound(devices, spec);
    spec.items("domain.devices.disks").iter_mut().for_each(|disk| self::disk(devices, disk));
    interfaces(devices, spec);
    for input in spec.items("domain.devices.inputs") {
        default(devices, "preferredInputBus", input, "bus");
        default(devices, "preferredInputType", input, "type");
    }
    panic_devices(devices, spec);
}

fn default(devices: &Value, preferred: &str, item: &mut Value, path: &str) {
    if let Some(value) = devices.at(preferred).filter(|value| **value != "") {
        item.set_default(path, value.clone());
    }
}

fn cpu_features(preference: &Value, spec: &mut Value) {
    for feature in preference.list("cpu.preferredCPUFeatures") {
        let there = spec.list("domain.cpu.features");
        if !there.iter().any(|own| own.text("name") == feature.text("name")) {
            spec.push("domain.cpu.features", feature.clone());
        }
    }
}

fn clock_offset(preference: &Value, spec: &mut Value) {
    let set = spec.has("domain.clock.utc") || spec.has("domain.clock.timezone");
    for (name, value) in preference.entries("clock.preferredClockOffset").filter(|_| !set) {
        spec.set(&format!("domain.clock.{name}"), value.clone());
    }
}

fn firmware(preference: &Value, spec: &mut Value) {
    const BIOS: &str = "domain.firmware.bootloader.bios";
    const EFI: &str = "domain.firmware.bootloader.efi";
    let Some(firmware) = preference.at("firmware") else { return };
    let none = |spec: &Value| !spec.has(BIOS) && !spec.has(EFI);
    let wants = |name: &str| firmware.switch(name) == Some(true);
    if wants("preferredUseBios") && none(spec) {
        spec.make_object(BIOS);
    }
    if let Some(serial) = firmware.at("preferredUseBiosSerial").filter(|_| spec.has(BIOS)) {
        spec.set_default(&format!("{BIOS}.useSerial"), serial.clone());
    }
    if let Some(efi) = firmware.at("preferredEfi").filter(|_| none(spec)) {
        return spec.set(EFI, efi.clone());
    }
    if wants("preferredUseEfi") && none(spec) {
        spec.make_object(EFI);
    }
    if let Some(secure) = firmware.at("preferredUseSecureBoot").filter(|_| spec.has(EFI)) {
        spec.set_default(&format!("{EFI}.secureBoot"), secure.clone());
    }
}

fn sound(devices: &Value, spec: &mut Value) {
    if spec.has("domain.devices.sound") {
        default(devices, "preferredSoundModel", spec.make("domain.devices.sound"), "model");
    }
}

fn disk(devices: &Value, disk: &mut Value) {
    if !["disk", "cdrom", "lun"].iter().any(|target| disk.has(target)) {
        disk.make_object("disk");
    }
    if disk.has("cdrom") {
        return default(devices, "preferredCdromBus", disk, "cdrom.bus");
    }
    if disk.has("lun") {
        return default(devices, "preferredLunBus", disk, "lun.bus");
    }
    default(devices, "preferredDiskBus", disk, "disk.bus");
    default(devices, "preferredDiskBlockSize", disk, "blockSize");
    default(devices, "preferredDiskCache", disk, "cache");
    default(devices, "preferredDiskIO", disk, "io");
    if disk.text("disk.bus") == "virtio" {
        default(devices, "preferredDiskDedicatedIoThread", disk, "dedicatedIOThread");
    }
}

fn interfaces(devices: &Value, spec: &mut Value) {
    let on_pod: Vec<String> = spec
        .list("networks")
        .iter()
        .filter(|network| network.has("pod"))
        .map(|network| network.text("name").to_owned())
        .collect();
    for interface in spec.items("domain.devices.interfaces") {
        default(devices, "preferredInterfaceModel", interface, "model");
        let unset = !crate::network::BINDINGS.iter().any(|binding| interface.has(binding));
        let pod = on_pod.iter().any(|name| name == interface.text("name"));
        if unset && pod && !interface.has("binding") {
            default(devices, "preferredInterfaceMasquerade", interface, "masquerade");
        }
    }
}

fn panic_devices(devices: &Value, spec: &mut Value) {
    let Some(model) = devices.at("preferredPanicDeviceModel") else { return };
    if spec.list("domain.devices.panicDevices").is_empty() {
        return spec.push("domain.devices.panicDevices", json!({ "model": model }));
    }
    for device in spec.items("domain.devices.panicDevices") {
        device.set_default("model", model.clone());
    }
}

/// The preferred CPU topology.
pub fn topology(preference: Option<&Value>) -> &str {
    let preferred = preference.map_or("", |preference| preference.text("cpu.preferredCPUTopology"));
    if preferred.is_empty() { "sockets" } else { preferred }
}

/// The ratio of the spread topology, and what CPUs are spread across.
pub fn spread(preference: Option<&Value>) -> (i64, &str) {
    let Some(preference) = preference else { return (2, "SocketsCores") };
    let given = [
        preference.number("cpu.spreadOptions.ratio"),
        preference.number("preferSpreadSocketToCoreRatio"),
    ];
    let ratio = given.into_iter().find(|ratio| *ratio > 0).unwrap_or(2);
    let across = preference.text("cpu.spreadOptions.across");
    (ratio, if across.is_empty() { "SocketsCores" } else { across })
}

/// Requirements of the preference that the machine does not meet; `guest` is the instance type's number of CPUs.
pub fn unmet(preference: &Value, guest: Option<i64>, spec: &Value) -> Vec<String> {
    let mut unmet = Vec::new();
    let wanted = preference.number("requirements.cpu.guest");
    let product = |fields: &[&str]| {
        let count = |field: &&str| spec.number(&format!("domain.cpu.{field}"));
        fields.iter().map(count).fold(1_i64, i64::saturating_mul)
    };
    let has = guest.unwrap_or_else(|| match topology(Some(preference)) {
        "cores" | "preferCores" => product(&["cores"]),
        "threads" | "preferThreads" => product(&["threads"]),
        "spread" | "preferSpread" => match spread(Some(preference)).1 {
            "CoresThreads" => product(&["cores", "threads"]),
            "SocketsCoresThreads" => product(&["sockets", "cores", "threads"]),
            _ => product(&["sockets", "cores"]),
        },
        "any" | "preferAny" => product(&["sockets", "cores", "threads"]),
        _ => product(&["sockets"]),
    });
    if has < wanted {
        unmet.push(format!("{wanted} CPUs, but it has {has}"));
    }
    if let Some(wanted) = preference.quantity("requirements.memory.guest") {
        let has = spec.quantity("domain.memory.guest").unwrap_or(crate::quantity::Quantity::ZERO);
        if has < wanted {
            unmet.push(format!("{wanted} of memory, but it has {has}"));
        }
    }
    let wanted = preference.text("requirements.architecture");
    let has = spec.text("architecture");
    if !wanted.is_empty() && has != wanted {
        let has = if has.is_empty() { "not set" } else { has };
        unmet.push(format!("the architecture {wanted}, but it is {has}"));
    }
    unmet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::has;

    #[test]
    fn every_path_is_one_of_kubevirts() {
        const SPEC: &str = "beta.VirtualMachinePreferenceSpec";
        for (theirs, own) in DEFAULTS.iter().chain(&REPLACED) {
            assert!(has(SPEC, theirs), "{theirs}");
            assert!(has("VirtualMachineInstanceSpec", own), "{own}");
        }
        for (theirs, own) in AUTOATTACH {
            assert!(has(SPEC, &format!("devices.{theirs}")), "{theirs}");
            assert!(has("Devices", own), "{own}");
        }
    }
}
