//! Why each volume and device of a pod is there.

use std::fmt::Write as _;

use crate::devices::Devices;
use crate::instance::Instance;
use crate::pod::Settings;
use crate::values::Below as _;

/// What the kinds of KubeVirt's volumes become.
const KINDS: [(&str, &str); 14] = [
    (
        "containerDisk",
        "a disk in a container image: a volume of the image, which an init container pulls first",
    ),
    ("persistentVolumeClaim", "a claim: a named volume of podman, with disk.img in it"),
    ("ephemeral", "a claim that the machine writes a layer over: a named volume of podman"),
    ("hostDisk", "an image on this host: its directory is mounted"),
    ("cloudInitNoCloud", "data for cloud-init: it travels in STANDALONE_VMI"),
    ("cloudInitConfigDrive", "data for cloud-init: it travels in STANDALONE_VMI"),
    (
        "emptyDisk",
        "an empty disk: the launcher makes it in the pod's own storage, and it is gone with the pod",
    ),
    ("downwardAPI", "facts of the pod as files"),
    ("downwardMetrics", "figures of the host for the guest, in memory"),
    ("sysprep", "answers for Windows' setup: a secret or configMap of podman"),
    ("containerPath", "a directory of the launcher's container"),
    ("dataVolume", "a volume of the cluster"),
    ("configMap", "a configMap"),
    ("secret", "a secret"),
];

/// The text of a pod's volumes and devices, with the reason of each.
#[must_use]
pub fn explain(instance: &Instance, settings: &Settings, devices: &Devices) -> String {
    let spec = instance.spec();
    let mut text = format!("{}/{}\n", instance.namespace(), instance.name());
    let mut line = |name: &str, why: &str| {
        let _ = writeln!(text, "  {name}: {why}");
    };
    for volume in spec.list("volumes") {
        let kind = KINDS.iter().find(|(kind, _)| volume.has(kind));
        let why = kind.map_or("of a kind that nothing is known of", |(_, why)| why);
        line(&format!("volume {}", volume.text("name")), why);
    }
    if settings.mount_devices {
        line("/dev/kvm", "every machine runs on it");
        line("/dev/net/tun", "every machine has it mounted: interfaces are made with it");
        line(
            "/dev/vhost-net",
            "every machine has it mounted: virtio interfaces are faster with it",
        );
        line("/sys/fs/cgroup", "virt-launcher looks there for the processors that it may use");
        for node in &devices.nodes {
            line(&node.path, &node.why);
        }
    }
    for name in &devices.names {
        line(name, "podman reads what it stands for from /etc/cdi and /var/run/cdi");
    }
    for (name, value) in &devices.env {
        line(&format!("{name}={value}"), "virt-launcher takes the device's address from it");
    }
    for (network, address) in &devices.networks {
        let why = format!(
            "is the virtual function {address}, which virt-launcher reads from /etc/podinfo/network-info"
        );
        line(&format!("network {network}"), &why);
    }
    for (region, bytes) in &devices.memory_limits {
        let why = format!(
            "at most {} of it: the pod's annotation tells it to Handover's hook of podman, which sets dmem.max",
            model::shown::bytes(*bytes)
        );
        line(region, &why);
    }
    if devices.lock_memory {
        line(
            "locked memory",
            "VFIO locks all of the guest's: the pod's annotation lifts the limit, for root's podman",
        );
    }
    text
}
