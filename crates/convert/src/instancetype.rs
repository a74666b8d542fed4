//! Instance types: CPUs, memory and devices of a machine (KubeVirt, pkg/instancetype/apply).

use serde_json::{Value, json};

use crate::preference;
use crate::values::Below as _;

/// Applies the `spec` of an instance type to the `spec` of an instance. Returns the fields that both set, which KubeVirt
/// refuses.
pub fn apply(kind: &Value, preference: Option<&Value>, spec: &mut Value) -> Vec<String> {
    let conflicts = conflicts(kind, spec);
    if !conflicts.is_empty() {
        return conflicts;
    }
    cpu(kind, preference, spec);
    memory(kind, spec);
    for path in COPIED {
        if let Some(value) = kind.at(path.0).filter(|value| !is_empty(value)) {
            spec.set(path.1, value.clone());
        }
    }
    Vec::new()
}

/// Fields that are copied unchanged: source and target.
const COPIED: [(&str, &str); 8] = [
    ("nodeSelector", "nodeSelector"),
    ("schedulerName", "schedulerName"),
    ("ioThreadsPolicy", "domain.ioThreadsPolicy"),
    ("ioThreads.supplementalPoolThreadCount", "domain.ioThreads.supplementalPoolThreadCount"),
    ("launchSecurity", "domain.launchSecurity"),
    ("gpus", "domain.devices.gpus"),
    ("hostDevices", "domain.devices.hostDevices"),
    ("memory.hugepages", "domain.memory.hugepages"),
];

/// Fields that only one of the two may set: in the instance type, and in the instance.
const EITHER: [(&str, &str); 6] = [
    ("cpu.model", "domain.cpu.model"),
    ("cpu.dedicatedCPUPlacement", "domain.cpu.dedicatedCpuPlacement"),
    ("cpu.isolateEmulatorThread", "domain.cpu.isolateEmulatorThread"),
    ("cpu.numa", "domain.cpu.numa"),
    ("cpu.realtime", "domain.cpu.realtime"),
    ("memory.maxGuest", "domain.memory.maxGuest"),
];

/// Fields that an instance with a type may not set.
const ALWAYS: [&str; 8] = [
    "domain.resources.requests.cpu",
    "domain.resources.limits.cpu",
    "domain.cpu.sockets",
    "domain.cpu.cores",
    "domain.cpu.threads",
    "domain.memory.guest",
    "domain.resources.requests.memory",
    "domain.resources.limits.memory",
];

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn conflicts(kind: &Value, spec: &Value) -> Vec<String> {
    let set = |value: &Value, path: &str| value.at(path).is_some_and(|value| !is_empty(value));
    // A switch that the instance type sets to false also counts.
    let both = |(theirs, own): &(&str, &str)| kind.has(theirs) && set(spec, own);
    let always = ALWAYS.iter().filter(|path| set(spec, path)).map(|path| (*path).to_owned());
    let either = EITHER.iter().chain(&COPIED).filter(|pair| both(pair)).map(|(_, own)| *own);
    let mut all: Vec<String> = always.chain(either.map(str::to_owned)).collect();
    for path in &mut all {
        path.insert_str(0, "spec.template.spec.");
    }
    all
}

fn cpu(kind: &Value, preference: Option<&Value>, spec: &mut Value) {
    for (theirs, own) in EITHER.iter().filter(|(theirs, _)| theirs.starts_with("cpu.")) {
        if let Some(value) = kind.at(theirs) {
            spec.set(own, value.clone());
        }
    }
    if kind.number("cpu.maxSockets") > 0 {
        spec.set("domain.cpu.maxSockets", kind.number("cpu.maxSockets"));
    }
    let (sockets, cores, threads) = topology(kind.number("cpu.guest").max(1), preference);
    spec.set("domain.cpu.sockets", sockets);
    spec.set("domain.cpu.cores", cores);
    spec.set("domain.cpu.threads", threads);
}

/// Sockets, cores and threads for a number of virtual CPUs.
fn topology(guest: i64, preference: Option<&Value>) -> (i64, i64, i64) {
    if guest == 1 {
        return (1, 1, 1);
    }
    match preference::topology(preference) {
        "cores" | "preferCores" => (1, guest, 1),
        "threads" | "preferThreads" => (1, 1, guest),
        "spread" | "preferSpread" => {
            let (ratio, across) = preference::spread(preference);
            match across {
                "CoresThreads" => (1, guest / ratio, ratio),
                "SocketsCoresThreads" => (guest / 2 / ratio, ratio, 2),
                _ => (guest / ratio, ratio, 1),
            }
        }
        _ => (guest, 1, 1),
    }
}

fn memory(kind: &Value, spec: &mut Value) {
    let Some(guest) = kind.quantity("memory.guest") else { return };
    spec.set("domain.memory.guest", guest.to_string());
    let percent = kind.number("memory.overcommitPercent").clamp(0, 100);
    if percent > 0 {
        let requested = i128::from(guest.value()) * i128::from(100 - percent) / 100;
        let requested = i64::try_from(requested).unwrap_or(i64::MAX);
        let requested = crate::quantity::Quantity::decimal(requested).written_like(guest);
        spec.set("domain.resources.requests.memory", requested.to_string());
    }
    if let Some(most) = kind.at("memory.maxGuest") {
        spec.set("domain.memory.maxGuest", most.clone());
    }
}

/// Adds annotations. Returns those that exist with another value.
pub fn annotate(kind: &Value, metadata: &mut Value) -> Vec<String> {
    let mut conflicts = Vec::new();
    for (key, value) in kind.entries("annotations") {
        let own = metadata.make("annotations");
        if !own.is_object() {
            *own = json!({});
        }
        match own.get(key) {
            Some(other) if other != value => conflicts.push(format!("annotations.{key}")),
            _ => own[key] = value.clone(),
        }
    }
    conflicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::has;

    #[test]
    fn every_path_is_one_of_kubevirts() {
        for (theirs, own) in COPIED.iter().chain(&EITHER) {
            assert!(has("beta.VirtualMachineInstancetypeSpec", theirs), "{theirs}");
            assert!(has("VirtualMachineInstanceSpec", own), "{own}");
        }
    }

    #[test]
    fn processors_as_a_preference_lays_them_out() {
        let laid_out = |guest, preference: Value| topology(guest, Some(&preference));
        let spread = |across: &str| json!({ "cpu": { "preferredCPUTopology": "spread", "spreadOptions": { "across": across } } });
        assert_eq!(topology(4, None), (4, 1, 1));
        assert_eq!(laid_out(4, json!({ "cpu": { "preferredCPUTopology": "cores" } })), (1, 4, 1));
        assert_eq!(laid_out(8, spread("SocketsCores")), (4, 2, 1));
        assert_eq!(laid_out(8, spread("CoresThreads")), (1, 4, 2));
        assert_eq!(laid_out(8, spread("SocketsCoresThreads")), (2, 2, 2));
    }
}
