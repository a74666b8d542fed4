//! Instances.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    AttachedDevice, Autostart, BlockDisk, Cdrom, NewDisk, RestartPolicy, RestartStatus, Tags,
    VolumeMount, Wish,
};

/// A request to create an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateInstance {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::InstanceName))]
    pub name: String,
    /// The image's name. Without one the machine has no root disk, and boots the first of the `cdroms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Memory, such as `4GB`; `1GB` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::MemorySize>))]
    pub size: Option<String>,
    /// Virtual CPUs; 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1024))]
    pub vcpus: Option<u32>,
    /// Size of the root disk; the image's size by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskSize>))]
    pub overlay_size: Option<String>,
    /// Devices, in the order in which the guest sees them: registered ones by id or name, or whatever a claim takes
    /// (`wants`): an address, `gpu`, `2xgpu`, `profile=L40S-1Q`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::PlacedWish>>, max_items = 1024))]
    pub devices: Option<Vec<Wish>>,
    /// `qemu`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Hypervisor>))]
    pub hypervisor: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// Words appended to the kernel's command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// The topology of the virtual CPUs, and whether the guest can see that it runs on KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// The guest's operating system: `windows` gets Hyper-V's interfaces and a clock of local time; `other` is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::GuestOs>))]
    pub os: Option<String>,
    /// `uefi`, `uefi-secure` (with Secure Boot) or `bios`; by default `uefi` for a disk image, and `bios` for a kernel, which is
    /// loaded directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Firmware>))]
    pub firmware: Option<String>,
    /// Its screen; absent: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<Display>,
    /// Whether it has a TPM 2.0, which swtpm emulates; it has none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<bool>,
    /// Huge pages for its memory: `never`, the default; `auto`, if enough are free on the NUMA node of its devices; or `required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::HugePages>))]
    pub hugepages: Option<String>,
    /// Placement beside its devices, on one NUMA node: `auto`, the default: memory there is preferred, and virtual processors are
    /// pinned to whole cores if enough are free; `required`: or it does not start; `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Placement>))]
    pub placement: Option<String>,
    /// How many ports it has for devices that it gets while it runs; 4 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 16))]
    pub spare_ports: Option<u32>,
    /// Whether the host's desktop and consoles end on the cards that it gets: the display manager and its sessions are stopped when
    /// it starts, and started again when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_display: Option<bool>,
    /// When other services that are stopped for `take_display` are started again: `at-end`, the default, or `after-start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::RestartUnits>))]
    pub restart_units: Option<String>,
    /// USB devices of the host: `VENDOR:PRODUCT` (`046d:c31c`) or `BUS.PORT` (`1.2`), found at each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::UsbWish>>, max_items = 15))]
    pub usb: Option<Vec<String>>,
    /// Whether it gets all USB keyboards and mice of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<bool>,
    /// What the guest sees as the ROMs of its devices, if not the devices' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 32))]
    pub roms: Option<Vec<Rom>>,
    /// Absent: a user network, if passt is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkRequest>,
    /// Its network cards instead of `network`, in the order in which the guest sees them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 8))]
    pub networks: Option<Vec<NetworkRequest>>,
    /// Public SSH keys that may log in, one line each, for a guest with cloud-init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::SshKey>>, max_items = 100))]
    pub ssh_keys: Option<Vec<String>>,
    /// The user's configuration for cloud-init, as text; 256 KiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::UserData>))]
    pub user_data: Option<String>,
    /// The guest's name, for a guest with cloud-init; the instance's name by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::HostName>))]
    pub hostname: Option<String>,
    /// The hash of a password of the image's usual user, for a guest with cloud-init: SHA-512 in the form of crypt(5), as
    /// `openssl passwd -6` prints it. It is for the console and the screen: SSH takes no password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::PasswordHash>))]
    pub password_hash: Option<String>,
    /// Whether its machine is started again when it ends; it is not by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Whether its machine is started with the host; it is not by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<Autostart>,
    /// A vGPU by profile, after the `devices`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuRequest>,
    /// Variables of the environment, besides the image's or in place of them. This and the next five are for container images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Environment>))]
    pub env: Option<BTreeMap<String, String>>,
    /// The command, in place of the image's: a program and its arguments, or the arguments of the entry point. No shell reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::Word>>, max_items = 1024))]
    pub cmd: Option<Vec<String>>,
    /// The entry point, in place of the image's. The image's command is then left out too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::Word>>, max_items = 1024))]
    pub entrypoint: Option<Vec<String>>,
    /// The user that the command runs as, in place of the image's: `USER[:GROUP]`, names of the image or numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Word>))]
    pub user: Option<String>,
    /// The directory in which the command starts, in place of the image's: an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::WorkingDir>))]
    pub working_dir: Option<String>,
    /// The kernel: the name of an image that has one. By default the image's own, else that of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Whether the image is pulled before: `never`, the default; `missing`, if there is no image of this name; `always`: if its name
    /// means another image by now, that is used. The answer waits for the pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::PullWhen>))]
    pub pull: Option<String>,
    /// New disks, which are deleted with the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 32))]
    pub disks: Option<Vec<NewDisk>>,
    /// Volumes, after the new disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 32))]
    pub volumes: Option<Vec<VolumeMount>>,
    /// Block devices of the host, after the volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 32))]
    pub blocks: Option<Vec<BlockDisk>>,
    /// CD-ROMs, which the firmware boots before the disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 6))]
    pub cdroms: Option<Vec<Cdrom>>,
}

/// What a guest sees as the ROM of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rom {
    /// The device: an address, or the id or name of a registered one. The machine has it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::DeviceKey))]
    pub device: String,
    /// The ROM in base64, which begins with 55 aa and has 512 B to 2 MB. Absent or `null`: the guest sees no ROM of the device.
    /// It is in requests and templates only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::RomContent>))]
    pub content: Option<String>,
}

/// The processors of a machine, besides their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Cpu {
    /// Sockets. With any of these three, the others are 1 if they are left out, and the product is the number of virtual CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, minimum = 1, maximum = 1024))]
    pub sockets: Option<u32>,
    /// Cores of each socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, minimum = 1, maximum = 1024))]
    pub cores: Option<u32>,
    /// Threads of each core.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, minimum = 1, maximum = 1024))]
    pub threads: Option<u32>,
    /// Whether the guest is not told that it runs on KVM, for drivers that refuse that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub hide_kvm: Option<bool>,
}

/// The screen of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Display {
    /// Whether the machine has a screen, which is so by default; `false` is given alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub enabled: Option<bool>,
    /// The protocol of its viewers: `vnc`, the default, or `spice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::DisplayProtocol>))]
    pub protocol: Option<String>,
    /// The memory of its graphics adapter, a power of two from `1MB` to `512MB`; `16MB` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::VideoMemory>))]
    pub video_memory: Option<String>,
    /// The address of the host on which viewers can reach it with a password, `ADDRESS[:PORT]`; by default only the daemon can.
    /// Without a port, one from 5900 on is chosen. SPICE is encrypted there, VNC is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::ScreenAddress>))]
    pub listen: Option<String>,
    /// The password on that address: for VNC up to 8 characters, for SPICE up to 60. One is made by default. It is in requests
    /// only; `GET /instances/{id}/display/access` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::ScreenPassword>))]
    pub password: Option<String>,
}

/// How viewers reach a screen by its address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DisplayAccess {
    /// The protocol: `vnc` or `spice`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::DisplayProtocol))]
    pub protocol: String,
    /// The address and port of the host.
    pub listen: String,
    /// The password.
    pub password: String,
    /// For SPICE: the certificate, in PEM, which is its own authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub certificate: Option<String>,
    /// For SPICE: the subject of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub subject: Option<String>,
}

/// The requested network. Its schema is in `network_forms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkRequest {
    /// Whether to add a virtual network card; by default it is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `user` (the default): passt connects the guest to the host's networks. `bridge`: the card is a port of a bridge of the
    /// host. `macvtap`: it is beside an interface of the host. `none`: like `enabled: false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The bridge or interface of the host, in the modes `bridge` and `macvtap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// In the mode `macvtap`: whether the interface may be the host's only way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// The card's hardware address; one is chosen by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Ports of the host that lead to the guest: `[ADDRESS:]HOST_PORT:GUEST_PORT[/tcp|/udp]`, such as `2222:22`. They
    /// listen on 127.0.0.1 if there is no address. Only in the mode `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwards: Option<Vec<String>>,
}

/// A change of an instance. What is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct UpdateInstance {
    /// Virtual CPUs. Without an arrangement in `cpu`, the earlier one is given up. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1024))]
    pub vcpus: Option<u32>,
    /// The topology of its virtual CPUs, and whether the guest can see that it runs on KVM. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Host name in the seed; cloud-init sets it at the next start, unless it was changed in the guest. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::HostName>))]
    pub hostname: Option<String>,
    /// Its screen, in place of the one that it has. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<Display>,
    /// Memory, such as `4GB`. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::MemorySize>))]
    pub size: Option<String>,
    /// `uefi`, `uefi-secure` or `bios`; another one begins with its own variables. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Firmware>))]
    pub firmware: Option<String>,
    /// Whether it has a TPM 2.0. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<bool>,
    /// Huge pages for its memory. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::HugePages>))]
    pub hugepages: Option<String>,
    /// Placement beside its devices. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Placement>))]
    pub placement: Option<String>,
    /// Whether the host's desktop and consoles end on its cards. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take_display: Option<bool>,
    /// When other services that are stopped for that are started again. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::RestartUnits>))]
    pub restart_units: Option<String>,
    /// All its USB devices of the host, in place of those that it has. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::UsbWish>>, max_items = 15))]
    pub usb: Option<Vec<String>>,
    /// Whether it gets all USB keyboards and mice. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<bool>,
    /// Its only network card, in place of those that it has. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkRequest>,
    /// All its network cards, in place of those that it has. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 8))]
    pub networks: Option<Vec<NetworkRequest>>,
    /// All its devices, in place of those that it has; one that is asked for by the same words stays. The instance must be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::PlacedWish>>, max_items = 1024))]
    pub devices: Option<Vec<Wish>>,
    /// Whether its machine is started again when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Whether its machine is started with the host, from the host's next start on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autostart: Option<Autostart>,
}

/// The requested vGPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuRequest {
    /// The profile's name.
    #[serde(default)]
    pub profile: Option<String>,
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Instance {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Uuid))]
    pub id: String,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::InstanceName))]
    pub name: String,
    /// The image's name.
    pub image: String,
    /// `Created`, `Initializing`, `Running`, `Paused`, `Shutdown`, `Stopped`, `Standby` or `Unknown`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::InstanceState))]
    pub state: String,
    /// What went wrong, if anything.
    pub state_error: Option<String>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory, as `CreateInstance` takes it.
    pub size: String,
    /// Size of the root disk, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub overlay_size: Option<String>,
    /// Its volumes, in the order in which the guest sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Its block devices of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockDisk>,
    /// Its CD-ROMs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cdroms: Vec<Cdrom>,
    /// `uefi`, `uefi-secure` or `bios`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Firmware))]
    pub firmware: String,
    /// Its processors; absent if nothing but their number was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub cpu: Option<Cpu>,
    /// The guest's operating system: `windows` or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::GuestOs>))]
    pub os: Option<String>,
    /// Its screen, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub display: Option<Display>,
    /// Whether it has a TPM 2.0; absent: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub tpm: Option<bool>,
    /// Huge pages for its memory: `auto` or `required`; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::HugePages>))]
    pub hugepages: Option<String>,
    /// Placement beside its devices: `auto` or `required`; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::Placement>))]
    pub placement: Option<String>,
    /// Where its machine runs, if it was placed at its last start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub placed: Option<crate::Placed>,
    /// For a container image: where its kernel was from at its last start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub kernel: Option<String>,
    /// For a single instance of a container image that runs: whether the agent in its guest answers, so that commands and copies
    /// work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub agent_ready: Option<bool>,
    /// How its VMM opens its devices: as `descriptors`, or by IOMMU `groups`; absent: it has none, or does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::DeviceAccess>))]
    pub device_access: Option<String>,
    /// The number of the set of GPUs that is active in NVIDIA's Fabric Manager while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub fabric_set: Option<u32>,
    /// How many ports it has for devices that it gets while it runs; absent: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub spare_ports: Option<u32>,
    /// Whether the host's desktop and consoles end on its cards while it runs; absent: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub take_display: Option<bool>,
    /// When other services that are stopped for that are started again; absent: `at-end`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::RestartUnits>))]
    pub restart_units: Option<String>,
    /// USB devices of the host that it gets when it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::UsbWish>))]
    pub usb: Vec<String>,
    /// Whether it gets all USB keyboards and mice of the host; absent: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub input: Option<bool>,
    /// The devices whose ROM is not their own for the guest, by address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::PciAddress>))]
    pub roms: Vec<String>,
    /// Its network: that of its first card.
    pub network: Network,
    /// All its network cards, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// The guest's name, if it was configured at the first boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub hostname: Option<String>,
    /// The guest's SSH host key, if it was configured at the first boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub ssh_host_key: Option<String>,
    /// Its first vGPU, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub gpu: Option<Gpu>,
    /// Whether its machine is started again when it ends; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub restart_policy: Option<RestartPolicy>,
    /// The attempts to start its machine again; absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub restart_status: Option<RestartStatus>,
    /// When its machine is started with the host; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub autostart: Option<Autostart>,
    /// Tags.
    pub tags: Tags,
    /// How its VMM ended.
    pub exit_code: Option<i32>,
    /// When it was created (RFC 3339).
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    /// Always `null`: instances do not expire.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub expires_at: Option<String>,
    /// When it was last started.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub started_at: Option<String>,
    /// When it last stopped.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub stopped_at: Option<String>,
    /// The VMM's name.
    pub hypervisor: String,
    /// Its registered devices, by id.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::Uuid>))]
    pub devices: Vec<String>,
    /// All its devices and vGPUs, in the order in which the guest sees them.
    #[serde(default)]
    pub attached: Vec<AttachedDevice>,
    /// Words appended to the kernel's command line.
    pub cmdline: Option<String>,
    /// The process id of the VMM, while it runs.
    pub pid: Option<u32>,
    /// Notes on the request just done, such as more virtual CPUs than the host has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Fields of the request that were ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The network of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Network {
    /// Whether it has a virtual network card. Handed-over NICs are devices and do not count.
    pub enabled: bool,
    /// `user`, `bridge`, `macvtap` or `none`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::NetworkMode))]
    pub mode: String,
    /// The bridge or interface of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub source: Option<String>,
    /// The card's hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub mac: Option<String>,
    /// The guest's address: what it gets by DHCP in the mode `user`; in others, the last IPv4 address at which this host has
    /// seen the card, if it has; for a single instance also what the guest's agent says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub ip: Option<String>,
    /// The card's interface on the host, in the modes `bridge` and `macvtap`, which exists while the machine runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub host_interface: Option<String>,
    /// Ports of the host that lead to the guest: `ADDRESS:HOST_PORT:GUEST_PORT/PROTOCOL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<String>,
}

/// The vGPU of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Gpu {
    /// Its profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub profile: Option<String>,
    /// The mediated device; absent if the vGPU is on a virtual function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::Uuid>))]
    pub mdev_uuid: Option<String>,
}
