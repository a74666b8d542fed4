//! Facts about the host that hand-overs depend on. The checks interpret them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Address;
use crate::boot_list::InitramfsTool;

use super::boot_loader::BootLoader;

/// Facts about a host. A fact that could not be read is `None` or missing, and named in `unseen`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The kernel's release: `6.1.0-31-amd64`.
    pub kernel: Option<String>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// The distribution: `ID` and `VERSION_ID` of `/etc/os-release`, such as `debian 12`.
    pub distribution: Option<String>,
    /// The processors.
    pub cpu: Cpu,
    /// ACPI tables about the IOMMU.
    pub firmware: FirmwareTables,
    /// The IOMMUs that the kernel runs (`/sys/class/iommu`).
    pub iommus: Vec<IommuDevice>,
    /// Whether interrupts are remapped (`IR-` in `/proc/interrupts`); `None` if unknown.
    pub interrupt_remapping: Option<bool>,
    /// `allow_unsafe_interrupts` of vfio_iommu_type1.
    pub unsafe_interrupts: Option<bool>,
    /// `allow_unsafe_interrupts` of iommufd.
    pub iommufd_unsafe_interrupts: Option<bool>,
    /// Whether vfio gives each device a node of its own (`vfio-dev` in `/proc/devices`); `None` if vfio is not loaded yet.
    pub device_nodes: Option<bool>,
    /// Whether the running system is itself a virtual machine (`hypervisor` among the processor's flags).
    pub virtual_machine: bool,
    /// Modules that matter to hand-overs, by name with underscores.
    pub modules: BTreeMap<String, Module>,
    /// The boot loader.
    pub boot_loader: BootLoader,
    /// Whether this is the first domain (dom0) of the Xen hypervisor.
    pub xen_dom0: bool,
    /// Whether a script of the doctor stopped before it rebuilt what it had edited ([`super::remedy::PENDING`]).
    pub rebuild_pending: bool,
    /// Files of the X server's configuration that name a graphics driver or a card.
    pub x11: Vec<X11File>,
    /// The tool that builds the initial ramdisk.
    pub initramfs: InitramfsTool,
    /// Firmware framebuffers in the host's address space (`BOOTFB`, `efifb`, `simple-framebuffer`).
    pub framebuffers: Vec<Framebuffer>,
    /// Running programs that are known to use GPUs: display servers, remote desktops, NVIDIA's daemons, monitors.
    pub processes: Vec<Process>,
    /// Huge pages, one entry per size.
    pub huge_pages: Vec<HugePages>,
    /// This process's limit for locked memory, in bytes; `u64::MAX` means unlimited.
    pub memlock_limit: Option<u64>,
    /// Memory in bytes.
    pub memory: u64,
    /// Device memory regions that cgroups can limit (`dmem.capacity` of the root group); `None` if the kernel has no
    /// dmem controller.
    pub device_memory: Option<Vec<MemoryRegion>>,
    /// Whether Handover's podman hook, which limits a container's device memory, is installed.
    pub memory_hook: bool,
    /// `/dev/kvm`, `/dev/vfio/vfio`, `/dev/iommu` and the nodes of groups, by path.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// Security modules.
    pub security: Security,
    /// Paths of OVMF firmware images.
    pub ovmf: Vec<String>,
    /// Programs that run machines, by name: `qemu-system-x86_64`, `libvirtd`, `podman`, `cloud-hypervisor`.
    pub tools: BTreeMap<String, Tool>,
    /// What could not be read, and why: `/proc/iomem shows addresses to root only`.
    pub unseen: Vec<String>,
}

impl Platform {
    /// The words of the kernel's command line, up to `--` (what follows is for init).
    pub fn cmdline_words(&self) -> impl Iterator<Item = &str> {
        let line = self.cmdline.as_deref().unwrap_or_default();
        line.split_whitespace().take_while(|word| *word != "--")
    }

    /// The kernel's version as numbers, `(6, 12)` of `6.12.9-amd64`.
    #[must_use]
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        version(self.kernel.as_deref()?)
    }
}

/// The first two numbers of a version, `(9, 2)` of `9.2.0` and of `9.2-rc1`.
#[must_use]
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    Some((major, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

/// The processors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// `GenuineIntel`, `AuthenticAMD`, ...
    pub vendor: String,
    /// `model name`.
    pub model: String,
    /// Virtualization extensions: `vmx` or `svm`.
    pub virtualization: Option<String>,
    /// Bits of a physical address.
    pub physical_bits: Option<u8>,
}

/// A device memory region that cgroups can limit (cgroup-v2.rst, "DMEM").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRegion {
    /// The name that its driver gave it: `drm/0000:03:00.0/vram0`.
    pub name: String,
    /// Size in bytes.
    pub capacity: u64,
}

impl MemoryRegion {
    /// Whether this is video memory of the function: graphics drivers name the region after the address and `vram`
    /// (amdgpu_vram_mgr.c, xe_ttm_vram_mgr.c).
    #[must_use]
    pub fn is_video_memory_of(&self, address: Address) -> bool {
        let rest = self.name.strip_prefix("drm/").and_then(|rest| rest.split_once('/'));
        rest.is_some_and(|(of, kind)| of.parse() == Ok(address) && kind.starts_with("vram"))
    }
}

/// ACPI tables about the IOMMU (`/sys/firmware/acpi/tables`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareTables {
    /// Whether the tables could be listed at all.
    pub seen: bool,
    /// Intel's `DMAR`.
    pub dmar: bool,
    /// AMD's `IVRS`.
    pub ivrs: bool,
    /// Virtio's `VIOT`.
    pub viot: bool,
    /// Arm's `IORT`.
    pub iort: bool,
    /// Whether the firmware is UEFI (`/sys/firmware/efi`).
    pub uefi: bool,
}

/// One IOMMU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IommuDevice {
    /// `dmar0`, `ivhd0`, ...
    pub name: String,
    /// Bits of address that it translates, if known.
    pub address_bits: Option<u8>,
}

/// A kernel module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Loaded or built in.
    pub loaded: bool,
    /// Can be loaded: found below `/lib/modules`.
    pub available: bool,
    /// The lines that blacklist or replace it, as `file:line: text` (`blacklist x`, `install x /bin/false`), and
    /// `module_blacklist=` on the command line.
    pub blacklisted: Vec<String>,
    /// Version, if known (`/sys/module/x/version`).
    pub version: Option<String>,
}

/// A file of the X server's configuration (xorg.conf(5)) that names a graphics driver or a card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct X11File {
    /// Its path.
    pub path: String,
    /// The drivers that it names, in small letters: `nvidia`, `nouveau`, `nvidia-drm`.
    pub drivers: Vec<String>,
    /// The cards that it names by `BusID`.
    pub cards: Vec<Address>,
}

/// A firmware framebuffer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framebuffer {
    /// Its name in `/proc/iomem`: `BOOTFB`, `efifb`, `simple-framebuffer`, `vesafb`.
    pub name: String,
    /// Its first address.
    pub start: u64,
    /// Its last address.
    pub end: u64,
}

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
    /// The systemd unit that it runs in.
    pub unit: Option<String>,
}

/// Huge pages of one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// Size of a page in bytes.
    pub size: u64,
    /// Total number of pages.
    pub total: u64,
    /// Free pages.
    pub free: u64,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Permission bits.
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Security modules that can block hand-overs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// The active ones (`/sys/kernel/security/lsm`).
    pub modules: Vec<String>,
    /// Whether SELinux enforces.
    pub selinux_enforcing: Option<bool>,
    /// Whether AppArmor has profiles for libvirt's machines (`/etc/apparmor.d/libvirt`).
    pub apparmor_libvirt: bool,
    /// Kernel lockdown: `none`, `integrity`, `confidentiality`.
    pub lockdown: Option<String>,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Path.
    pub path: String,
    /// Version as the program reports it: `10.0.2`.
    pub version: Option<String>,
}
