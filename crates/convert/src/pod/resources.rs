//! Requests and limits of the compute container (KubeVirt, pkg/virt-controller/services/renderresources.go).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::devices::Devices;
use crate::instance::Instance;
use crate::overhead::{is_dedicated, vcpus};
use crate::quantity::Quantity;
use crate::values::{Below as _, read};

/// Quantities by name.
type List = BTreeMap<String, Quantity>;

/// The default number of virtual CPUs per host CPU.
const CPU_ALLOCATION_RATIO: i64 = 10;

const EPHEMERAL: &str = "ephemeral-storage";

/// Storage for the launcher's own files.
const EPHEMERAL_STORAGE: i64 = 50_000_000;

/// The `resources` of an instance's compute container.
pub fn of(instance: &Instance, devices: &Devices, overhead: Quantity) -> Value {
    let spec = instance.spec();
    let mut resources = Resources {
        limits: list(spec, "domain.resources.limits"),
        requests: list(spec, "domain.resources.requests"),
        calculated_limits: List::new(),
        calculated_requests: List::new(),
    };
    let storage = Quantity::decimal(EPHEMERAL_STORAGE);
    add(&mut resources.requests, EPHEMERAL, storage);
    if resources.limits.contains_key(EPHEMERAL) {
        add(&mut resources.limits, EPHEMERAL, storage);
    }
    for device in nodes(spec) {
        resources.limits.insert(device.to_owned(), Quantity::decimal(1));
    }
    // podman adds a device whose qualified name is among the limits (`setupContainerDevices` in pkg/specgen/generate/
    // kube/kube.go, podman 5.4).
    for name in &devices.names {
        resources.limits.insert(name.clone(), Quantity::decimal(1));
    }
    resources.memory_request(spec);
    if is_dedicated(spec) {
        resources.pin(instance);
    } else {
        let cpus = vcpus(spec).saturating_add(io_threads(spec));
        let share = Quantity::milli(cpus.saturating_mul(1000 / CPU_ALLOCATION_RATIO));
        resources.calculated_requests.insert("cpu".into(), share);
    }
    if spec.has("domain.memory.hugepages") {
        resources.huge_pages(spec, overhead);
    } else {
        if spec.switch("domain.resources.overcommitGuestOverhead") != Some(true) {
            add(&mut resources.requests, "memory", overhead);
        }
        if resources.limits.contains_key("memory") {
            add(&mut resources.limits, "memory", overhead);
        }
    }
    for path in ["domain.devices.gpus", "domain.devices.hostDevices"] {
        spec.list(path).iter().for_each(|device| resources.one_more(device.text("deviceName")));
    }
    resources.render()
}

struct Resources {
    limits: List,
    requests: List,
    calculated_limits: List,
    calculated_requests: List,
}

fn list(spec: &Value, path: &str) -> List {
    spec.entries(path).filter_map(|(name, value)| Some((name.clone(), read(value)?))).collect()
}

fn add(list: &mut List, name: &str, more: Quantity) {
    let there = list.get(name).copied().unwrap_or(Quantity::ZERO);
    list.insert(name.to_owned(), there.plus(more));
}

fn io_threads(spec: &Value) -> i64 {
    spec.number("domain.ioThreads.supplementalPoolThreadCount").clamp(0, 1 << 20)
}

/// The host nodes that a machine needs, by the names of the cluster's device plugin.
fn nodes(spec: &Value) -> Vec<&'static str> {
    let interfaces = spec.list("domain.devices.interfaces");
    let virtio = interfaces.iter().any(|one| matches!(one.text("model"), "" | "virtio"));
    let tun = !interfaces.is_empty()
        || spec.switch("domain.devices.autoattachPodInterface") != Some(false);
    let all = [
        (true, "devices.kubevirt.io/kvm"),
        (tun, "devices.kubevirt.io/tun"),
        (virtio, "devices.kubevirt.io/vhost-net"),
        (
            spec.switch("domain.devices.autoattachVSOCK") == Some(true),
            "devices.kubevirt.io/vhost-vsock",
        ),
        (spec.has("domain.launchSecurity.sev"), "devices.kubevirt.io/sev"),
        (spec.has("domain.launchSecurity.tdx"), "devices.kubevirt.io/tdx"),
    ];
    all.into_iter().filter(|(needed, _)| *needed).map(|(_, name)| name).collect()
}

impl Resources {
    fn memory_request(&mut self, spec: &Value) {
        if spec.quantity("domain.resources.requests.memory").is_some_and(|one| !one.is_zero()) {
            return;
        }
        let limit = self.limits.get("memory").copied().filter(|limit| !limit.is_zero());
        let guest = spec.quantity("domain.memory.guest");
        let huge = || spec.quantity("domain.memory.hugepages.pageSize");
        if let Some(memory) = limit.or(guest).or_else(huge) {
            self.requests.insert("memory".into(), memory);
        }
    }

    /// Dedicated CPUs: one per virtual CPU, and one for an isolated emulator thread.
    fn pin(&mut self, instance: &Instance) {
        let spec = instance.spec();
        let mut cpus = vcpus(spec).saturating_add(io_threads(spec));
        if spec.switch("domain.cpu.isolateEmulatorThread") == Some(true) {
            let even = instance.annotation("alpha.kubevirt.io/EmulatorThreadCompleteToEvenParity");
            let pool = spec.text("domain.ioThreadsPolicy") == "supplementalPool";
            let pool = if pool { io_threads(spec) } else { 0 };
            cpus += if even.is_some() && (cpus + pool) % 2 == 0 { 2 } else { 1 };
        }
        for list in [&mut self.limits, &mut self.requests] {
            list.insert("cpu".into(), Quantity::binary(cpus));
        }
        if let Some(memory) = self.requests.get("memory") {
            self.limits.insert("memory".into(), *memory);
        }
    }

    /// The guest's memory uses huge pages; only the overhead uses normal memory.
    fn huge_pages(&mut self, spec: &Value, overhead: Quantity) {
        let name = format!("hugepages-{}", spec.text("domain.memory.hugepages.pageSize"));
        let request = self.requests.get("memory").copied().unwrap_or(Quantity::ZERO);
        let guest = spec.quantity("domain.memory.guest").unwrap_or(request);
        let pages = request.min(guest);
        self.calculated_requests.insert(name.clone(), pages);
        self.calculated_limits.insert(name, pages);
        let beside = |all: Quantity| {
            if all > guest {
                all.minus(guest).plus(overhead)
            } else {
                Quantity::ZERO.plus(overhead)
            }
        };
        self.requests.insert("memory".into(), beside(request));
        if let Some(limit) = self.limits.get_mut("memory") {
            *limit = beside(*limit);
        }
    }

    fn one_more(&mut self, name: &str) {
        for (own, calculated) in [
            (&self.limits, &mut self.calculated_limits),
            (&self.requests, &mut self.calculated_requests),
        ] {
            let there = calculated.get(name).or_else(|| own.get(name)).copied();
            let there = there.unwrap_or(Quantity::ZERO);
            calculated.insert(name.to_owned(), there.plus(Quantity::decimal(1)));
        }
    }

    /// Values of the user override calculated ones.
    fn render(self) -> Value {
        let render = |mut calculated: List, own: List| -> BTreeMap<String, String> {
            calculated.extend(own);
            calculated.into_iter().map(|(name, value)| (name, value.to_string())).collect()
        };
        json!({
            "limits": render(self.calculated_limits, self.limits),
            "requests": render(self.calculated_requests, self.requests),
        })
    }
}
