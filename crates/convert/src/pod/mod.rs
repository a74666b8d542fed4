//! The pod of an instance: what KubeVirt's controller would send to a cluster (pkg/virt-controller/services/
//! template.go), with what podman needs instead of the cluster.

mod compute;
mod containers;
mod resources;
mod scheduling;
mod volumes;

use serde_json::{Map, Value, json};
use sha1_smol::Sha1;

use crate::devices::{self, Devices};
use crate::instance::{Instance, owner};
use crate::values::Below as _;
use crate::{overhead, standalone};

/// Options of pods.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image of virt-launcher.
    pub launcher_image: String,
    /// Whether interfaces are bound with passt.
    pub passt: bool,
    /// Whether the host's devices are mounted.
    pub mount_devices: bool,
    /// The proxy of the serial console, if requested.
    pub console_proxy: Option<ConsoleProxy>,
}

/// A container that serves the machine's serial console over a WebSocket.
#[derive(Clone, Debug)]
pub struct ConsoleProxy {
    /// Its image.
    pub image: String,
    /// Its port.
    pub port: u16,
}

/// The default image of virt-launcher.
pub const LAUNCHER_IMAGE: &str = "quay.io/kubevirt/virt-launcher:v1.8.0";

impl Default for Settings {
    fn default() -> Self {
        Self {
            launcher_image: LAUNCHER_IMAGE.to_owned(),
            passt: true,
            mount_devices: true,
            console_proxy: None,
        }
    }
}

/// The user id of KubeVirt's launcher.
pub(crate) const USER: i64 = 107;

/// The launcher's private directory.
const PRIVATE: &str = "/var/run/kubevirt-private";

/// The default time for a guest to shut down.
const GRACE_SECONDS: i64 = 30;

/// The additional time for the launcher, and for the pod on top of that.
const GRACE_PADDING: i64 = 15;

/// The objects of an instance for podman: its pod, preceded by what the pod needs.
#[must_use]
pub fn objects(instance: &mut Instance, settings: &Settings, devices: &Devices) -> Vec<Value> {
    if settings.passt {
        instance.use_passt(!devices.networks.is_empty());
    }
    let info = volumes::network_info(instance, devices);
    let pod = pod(instance, settings, devices);
    info.into_iter().chain([pod]).collect()
}

fn pod(instance: &mut Instance, settings: &Settings, devices: &Devices) -> Value {
    let memory_overhead = overhead::of(instance.spec());
    let volumes = volumes::of(instance, settings, devices);
    let resources = resources::of(instance, devices, memory_overhead);
    let annotations = annotations(instance, memory_overhead.value(), devices);
    instance.name_interfaces();
    let compute = compute::container(instance, settings, devices, &volumes, resources);
    let mut spec = Map::new();
    let (init, beside) = containers::others(instance, settings);
    let all: Vec<Value> = [compute].into_iter().chain(beside).collect();
    spec.insert("containers".into(), all.into());
    if !init.is_empty() {
        spec.insert("initContainers".into(), init.into());
    }
    spec.insert("volumes".into(), volumes.all.into());
    let grace = grace_seconds(instance.spec()).saturating_add(GRACE_PADDING);
    spec.insert("terminationGracePeriodSeconds".into(), grace.into());
    scheduling::add(instance, &mut spec);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "annotations": annotations,
            "labels": labels(instance),
            "name": name(instance.name()),
            "ownerReferences": [owner("VirtualMachineInstance", &instance.object)],
        },
        "spec": spec,
        "status": {},
    })
}

/// The name of an instance's pod.
#[must_use]
pub fn name(instance: &str) -> String {
    format!("virt-launcher-{instance}")
}

/// How long the launcher waits for the guest.
fn grace_seconds(spec: &Value) -> i64 {
    let given = spec.at("terminationGracePeriodSeconds").and_then(Value::as_i64);
    given.unwrap_or(GRACE_SECONDS).saturating_add(GRACE_PADDING)
}

fn annotations(instance: &Instance, overhead: i64, devices: &Devices) -> Map<String, Value> {
    // Annotations of other tools.
    const FOREIGN: [&str; 3] = [
        "kubectl.kubernetes.io",
        "kubevirt.io/storage-observed-api-version",
        "kubevirt.io/latest-observed-api-version",
    ];
    let own = instance.object.entries("metadata.annotations");
    let own = own.filter(|(key, _)| !FOREIGN.iter().any(|foreign| key.starts_with(foreign)));
    let mut all: Map<String, Value> =
        own.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut add = |key: &str, value: Value| all.insert(key.to_owned(), value);
    add("kubevirt.io/domain", instance.name().into());
    add("kubectl.kubernetes.io/default-container", "compute".into());
    add("kubevirt.io/migrationTransportUnix", "true".into());
    add("descheduler.alpha.kubernetes.io/request-evict-only", "".into());
    add("kubevirt.io/memory-overhead-bytes", overhead.to_string().into());
    if let Some(text) = standalone::persistence(instance.spec()) {
        add("kubevirt-vm-to-pod/persistence-warning", text.into());
    }
    if devices.lock_memory {
        // The only way to set the memlock limit in `podman kube play`; rootless podman cannot raise it.
        add("io.podman.annotations.ulimit", "memlock=-1:-1".into());
    }
    if let Some(lines) = devices::dmem_lines(devices) {
        add(devices::DMEM_ANNOTATION, lines.into());
    }
    all
}

fn labels(instance: &Instance) -> Map<String, Value> {
    let own = instance.object.entries("metadata.labels");
    let mut all: Map<String, Value> =
        own.map(|(key, value)| (key.clone(), value.clone())).collect();
    all.insert("kubevirt.io".into(), "virt-launcher".into());
    all.insert("kubevirt.io/created-by".into(), "".into());
    all.insert("vm.kubevirt.io/name".into(), hostname(instance).into());
    all.insert("vmi.kubevirt.io/id".into(), label_of(instance.name()).into());
    if let Some(inject) = instance.annotation("sidecar.istio.io/inject") {
        all.insert("sidecar.istio.io/inject".into(), inject.into());
    }
    all
}

/// The maximum length of a label's value and of a host name.
const LONGEST: usize = 63;

/// A name as a label's value: a long one is truncated and gets its hash (KubeVirt, pkg/apimachinery).
fn label_of(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let hash = Sha1::from(name).digest().to_string();
    let cut = name.get(..LONGEST - 9).unwrap_or(name);
    format!("{cut}-{}", hash.get(..8).unwrap_or(&hash))
}

/// The host name in the pod (KubeVirt, pkg/util/net/dns).
fn hostname(instance: &Instance) -> String {
    let given = instance.spec().text("hostname");
    if !given.is_empty() {
        return given.to_owned();
    }
    let first = instance.name().split('.').next().unwrap_or_default();
    first.get(..LONGEST).unwrap_or(first).to_owned()
}
