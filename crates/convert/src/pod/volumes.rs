//! The pod's volumes and mounts (KubeVirt, pkg/virt-controller/services/rendervolumes.go).

use serde_json::{Value, json};

use super::{PRIVATE, Settings};
use crate::devices::Devices;
use crate::instance::Instance;
use crate::overhead::has_tpm;
use crate::values::Below as _;

/// The volume with the launcher's image.
pub const LAUNCHER: &str = "launcher-volume";

/// The volume with the image of a kernel to boot.
pub const KERNEL: &str = "kernel-boot-volume";

/// The field of a machine that boots a kernel from an image.
pub const HAS_KERNEL: &str = "domain.firmware.kernelBoot.container.image";

/// The volumes of a pod, and the mounts of its compute container.
#[derive(Default)]
pub struct Volumes {
    /// The volumes.
    pub all: Vec<Value>,
    /// The mounts.
    pub mounts: Vec<Value>,
}

/// All volumes of an instance.
pub fn of(instance: &Instance, settings: &Settings, devices: &Devices) -> Volumes {
    let mut volumes = Volumes::default();
    volumes.launchers_own();
    let spec = instance.spec();
    spec.list("volumes").iter().for_each(|volume| volumes.downward_api(volume, spec));
    for volume in spec.list("volumes") {
        volumes.storage(volume);
        volumes.secrets(volume);
    }
    volumes.credentials(spec);
    volumes.state(instance);
    volumes.images(instance, settings);
    if spec.has("domain.memory.hugepages") {
        for (name, path) in
            [("hugepages", "/dev/hugepages"), ("hugetblfs-dir", "/dev/hugepages/libvirt/qemu")]
        {
            volumes.add(json!({ "emptyDir": { "medium": "HugePages" }, "name": name }));
            volumes.mount(name, path);
        }
    }
    if spec.switch("domain.devices.disableHotplug") != Some(true) {
        volumes.empty("hotplug-disks");
        let path = "/var/run/kubevirt/hotplug-disks/";
        let mount = json!({ "mountPath": path, "mountPropagation": "HostToContainer", "name": "hotplug-disks" });
        volumes.mounts.push(mount);
    }
    if !devices.networks.is_empty() {
        let name = network_info_name(instance);
        volumes.add(json!({ "configMap": { "name": name }, "name": "network-info-annotation" }));
        volumes.mount("network-info-annotation", "/etc/podinfo");
    }
    if !spec.list("domain.devices.filesystems").is_empty() {
        volumes.empty("virtiofs-containers");
        volumes.mount("virtiofs-containers", "/var/run/kubevirt/virtiofs-containers");
    }
    if settings.mount_devices {
        volumes.host(spec, devices);
    }
    volumes
}

/// Whether images are run once before the machine.
pub fn wants_digests(instance: &Instance) -> bool {
    instance.annotation("kubevirt.io/image-volume-skip-digest-resolution") != Some("true")
}

fn network_info_name(instance: &Instance) -> String {
    format!("{}-network-info", instance.name())
}

/// The virtual function of each network. The launcher reads it from a file that a cluster creates from an annotation,
/// and podman only from a `ConfigMap` (KubeVirt, pkg/network/downwardapi).
pub fn network_info(instance: &Instance, devices: &Devices) -> Option<Value> {
    let interface = |(network, address): &(String, String)| {
        json!({
            "deviceInfo": { "pci": { "pci-address": address }, "type": "pci", "version": "1.0.0" },
            "network": network,
        })
    };
    let interfaces: Vec<Value> = devices.networks.iter().map(interface).collect();
    (!interfaces.is_empty()).then(|| {
        json!({
            "apiVersion": "v1",
            "data": { "network-info": json!({ "interfaces": interfaces }).to_string() },
            "kind": "ConfigMap",
            "metadata": { "name": network_info_name(instance) },
        })
    })
}

impl Volumes {
    fn add(&mut self, volume: Value) {
        self.all.push(volume);
    }

    fn empty(&mut self, name: &str) {
        self.add(json!({ "emptyDir": {}, "name": name }));
    }

    fn mount(&mut self, name: &str, path: &str) {
        self.mounts.push(json!({ "mountPath": path, "name": name }));
    }

    fn mount_read_only(&mut self, name: &str, path: &str) {
        self.mounts.push(json!({ "mountPath": path, "name": name, "readOnly": true }));
    }

    fn launchers_own(&mut self) {
        for name in [
            "private",
            "public",
            "sockets",
            "virt-bin-share-dir",
            "libvirt-runtime",
            "ephemeral-disks",
        ] {
            self.empty(name);
        }
        self.mount("private", PRIVATE);
        self.mount("public", "/var/run/kubevirt");
        self.mount("ephemeral-disks", "/var/run/kubevirt-ephemeral-disks");
        self.mount("libvirt-runtime", "/var/run/libvirt");
        self.mount("sockets", "/var/run/kubevirt/sockets");
    }

    fn downward_api(&mut self, volume: &Value, spec: &Value) {
        let Some(source) = volume.at("downwardAPI") else { return };
        let name = volume.text("name");
        self.add(json!({ "downwardAPI": { "items": source.list("fields") }, "name": name }));
        if spec.list("domain.devices.disks").iter().any(|disk| disk.text("name") == name) {
            self.mount_read_only(name, &format!("{PRIVATE}/downwardapi/{name}"));
        }
    }

    /// Volumes on the host, or in its memory.
    fn storage(&mut self, volume: &Value) {
        let name = volume.text("name");
        let disk = format!("{PRIVATE}/vmi-disks/{name}");
        let claim = volume
            .at("persistentVolumeClaim")
            .or_else(|| volume.at("ephemeral.persistentVolumeClaim"));
        if let Some(claim) = claim {
            let mut source = json!({ "claimName": claim.text("claimName") });
            if claim.switch("readOnly") == Some(true) {
                source["readOnly"] = true.into();
            }
            self.mount(name, &disk);
            self.add(json!({ "name": name, "persistentVolumeClaim": source }));
        }
        if let Some(host) = volume.at("hostDisk") {
            let path = host.text("path");
            let directory = path.rsplit_once('/').map_or(".", |(directory, _)| directory);
            let directory = if directory.is_empty() { "/" } else { directory };
            let create = host.text("type") == "DiskOrCreate";
            let kind = if create { "DirectoryOrCreate" } else { "Directory" };
            self.mount(name, &disk);
            self.add(json!({ "hostPath": { "path": directory, "type": kind }, "name": name }));
        }
        if volume.has("downwardMetrics") {
            self.add(
                json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" }, "name": name }),
            );
            self.mount(name, &format!("{PRIVATE}/downwardmetric-disk"));
        }
        if let Some(sysprep) = volume.at("sysprep") {
            let secret = sysprep.text("secret.name");
            let source = if secret.is_empty() {
                json!({ "configMap": { "name": sysprep.text("configMap.name") }, "name": name })
            } else {
                json!({ "name": name, "secret": { "secretName": secret } })
            };
            self.add(source);
            self.mount_read_only(name, &format!("{PRIVATE}/sysprep/{name}"));
        }
    }

    /// cloud-init data in a secret.
    fn secrets(&mut self, volume: &Value) {
        let name = volume.text("name");
        for kind in ["cloudInitNoCloud", "cloudInitConfigDrive"] {
            for (field, end, files) in [
                ("secretRef", "udata", ["userdata", "userData"]),
                ("networkDataSecretRef", "ndata", ["networkdata", "networkData"]),
            ] {
                let secret = volume.text(&format!("{kind}.{field}.name"));
                if secret.is_empty() {
                    continue;
                }
                let own = format!("{name}-{end}");
                self.add(json!({ "name": own, "secret": { "secretName": secret } }));
                for file in files {
                    self.mounts.push(json!({
                        "mountPath": format!("{PRIVATE}/secret/{name}/{file}"),
                        "name": own,
                        "readOnly": true,
                        "subPath": file,
                    }));
                }
            }
        }
    }

    fn credentials(&mut self, spec: &Value) {
        for credential in spec.list("accessCredentials") {
            let key = credential.text("sshPublicKey.source.secret.secretName");
            let password = credential.text("userPassword.source.secret.secretName");
            let Some(secret) = [key, password].into_iter().find(|name| !name.is_empty()) else {
                continue;
            };
            let name = format!("{secret}-access-cred");
            self.add(json!({ "name": name, "secret": { "secretName": secret } }));
            self.mount_read_only(&name, &format!("{PRIVATE}/secret/{name}"));
        }
    }

    /// The volume of persistent TPM or firmware state.
    fn state(&mut self, instance: &Instance) {
        const STATE: &str = "vm-state";
        let spec = instance.spec();
        let tpm = has_tpm(spec) && spec.switch("domain.devices.tpm.persistent") == Some(true);
        let efi = spec.switch("domain.firmware.bootloader.efi.persistent") == Some(true);
        if !tpm && !efi {
            return;
        }
        let claim = format!("persistent-state-for-{}", instance.name());
        self.add(json!({ "name": STATE, "persistentVolumeClaim": { "claimName": claim } }));
        let mut part = |path: &str, directory: &str| {
            self.mounts.push(json!({ "mountPath": path, "name": STATE, "subPath": directory }));
        };
        part("/run/kubevirt-private/backend-storage-meta", "meta");
        // Intermediate directories would belong to root, and the launcher could not write to them.
        self.empty("private-libvirt");
        self.empty("private-libvirt-qemu");
        self.mount("private-libvirt", &format!("{PRIVATE}/libvirt"));
        self.mount("private-libvirt-qemu", &format!("{PRIVATE}/libvirt/qemu"));
        let mut part = |path: &str, directory: &str| {
            let path = format!("{PRIVATE}/{path}");
            self.mounts.push(json!({ "mountPath": path, "name": STATE, "subPath": directory }));
        };
        if tpm {
            part("libvirt/qemu/swtpm", "swtpm");
            part("var/lib/swtpm-localca", "swtpm-localca");
        }
        if efi {
            part("libvirt/qemu/nvram", "nvram");
        }
    }

    /// Disks and kernels in container images, as image volumes (Kubernetes 1.31, podman 5.3).
    fn images(&mut self, instance: &Instance, settings: &Settings) {
        let spec = instance.spec();
        let mut any = false;
        for (number, volume) in spec.list("volumes").iter().enumerate() {
            let Some(disk) = volume.at("containerDisk") else { continue };
            let name = volume.text("name");
            self.image(name, disk.text("image"), disk.text("imagePullPolicy"));
            self.mount_read_only(name, &format!("/var/run/kubevirt-image-volume/disk_{number}"));
            any = true;
        }
        if spec.has(HAS_KERNEL) {
            let kernel = &spec["domain"]["firmware"]["kernelBoot"]["container"];
            self.image(KERNEL, kernel.text("image"), kernel.text("imagePullPolicy"));
            self.mount_read_only(KERNEL, "/var/run/kubevirt-kernel-boot");
            any = true;
        }
        if any && wants_digests(instance) {
            self.image(LAUNCHER, &settings.launcher_image, "IfNotPresent");
        }
    }

    fn image(&mut self, name: &str, reference: &str, policy: &str) {
        let mut image = json!({ "reference": reference });
        if !policy.is_empty() {
            image["pullPolicy"] = policy.into();
        }
        self.add(json!({ "image": image, "name": name }));
    }

    /// Nodes of the host. podman has no device plugins, so the nodes are mounted.
    fn host(&mut self, spec: &Value, devices: &Devices) {
        let always =
            [("kvm", "/dev/kvm"), ("tun", "/dev/net/tun"), ("vhost-net", "/dev/vhost-net")];
        for (name, path) in always {
            self.node(name, path);
        }
        let path = "/sys/fs/cgroup";
        self.add(json!({ "hostPath": { "path": path, "type": "Directory" }, "name": "cgroup" }));
        // virt-launcher reads there which CPUs it may use.
        self.mount_read_only("cgroup", path);
        if spec.switch("domain.devices.autoattachVSOCK") == Some(true) {
            self.node("vhost-vsock", "/dev/vhost-vsock");
        }
        if spec.has("domain.launchSecurity.sev") || spec.has("domain.launchSecurity.snp") {
            self.node("sev", "/dev/sev");
        }
        for node in &devices.nodes {
            self.node(&node.name, &node.path);
        }
    }

    fn node(&mut self, name: &str, path: &str) {
        self.add(json!({ "hostPath": { "path": path, "type": "CharDevice" }, "name": name }));
        self.mount(name, path);
    }
}
