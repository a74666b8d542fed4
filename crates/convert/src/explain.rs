//! Explains each volume and device of a pod.

use std::fmt::Write as _;

use model::shown;

use crate::devices::Devices;
use crate::instance::Instance;
use crate::pod::Settings;
use crate::values::Below as _;

/// What each kind of KubeVirt volume becomes.
const KINDS: [(&str, &str); 14] = [
    (
        "containerDisk",
        "a disk in a container image: a volume of the image, which an init container pulls first",
    ),
    ("persistentVolumeClaim", "a claim: a named podman volume that contains disk.img"),
    ("ephemeral", "a claim with a layer for the machine's writes: a named podman volume"),
    ("hostDisk", "an image on this host: its directory is mounted"),
    ("cloudInitNoCloud", "data for cloud-init: part of STANDALONE_VMI"),
    ("cloudInitConfigDrive", "data for cloud-init: part of STANDALONE_VMI"),
    (
        "emptyDisk",
        "an empty disk: the launcher creates it in the pod's storage, and it is removed with the pod",
    ),
    ("downwardAPI", "metadata of the pod as files"),
    ("downwardMetrics", "metrics of the host for the guest, in memory"),
    ("sysprep", "answer file for Windows setup: a podman secret or configMap"),
    ("containerPath", "a directory of the launcher's container"),
    ("dataVolume", "a volume of the cluster"),
    ("configMap", "a configMap"),
    ("secret", "a secret"),
];

/// The text that explains a pod's volumes and devices.
#[must_use]
pub fn explain(instance: &Instance, settings: &Settings, devices: &Devices) -> String {
    let spec = instance.spec();
    let mut text = format!("{}/{}\n", instance.namespace(), instance.name());
    let mut line = |name: &str, why: &str| {
        // Names of volumes come from the file.
        let _ = writeln!(text, "  {}", shown::plain(format!("{name}: {why}")));
    };
    for volume in spec.list("volumes") {
        let kind = KINDS.iter().find(|(kind, _)| volume.has(kind));
        let why = kind.map_or("of an unknown kind", |(_, why)| why);
        line(&format!("volume {}", volume.text("name")), why);
    }
    if settings.mount_devices {
        line("/dev/kvm", "mounted for every machine: KVM");
        line("/dev/net/tun", "mounted for every machine: creates network interfaces");
        line("/dev/vhost-net", "mounted for every machine: speeds up virtio interfaces");
        line("/sys/fs/cgroup", "virt-launcher reads there which CPUs it may use");
        for node in &devices.nodes {
            line(&node.path, &node.why);
        }
    }
    for name in &devices.names {
        line(name, "CDI name; podman reads its spec from /etc/cdi and /var/run/cdi");
    }
    for (name, value) in &devices.env {
        line(&format!("{name}={value}"), "virt-launcher reads the device's address from it");
    }
    for (network, address) in &devices.networks {
        let why = format!(
            "is the virtual function {address}, which virt-launcher reads from /etc/podinfo/network-info"
        );
        line(&format!("network {network}"), &why);
    }
    for (region, bytes) in &devices.memory_limits {
        let why = format!(
            "at most {} of it: Handover's podman hook reads the pod's annotation and sets dmem.max",
            model::shown::bytes(*bytes)
        );
        line(region, &why);
    }
    if devices.lock_memory {
        line(
            "locked memory",
            "VFIO locks all of the guest's memory: the pod's annotation lifts the limit, for root's podman",
        );
    }
    text
}
