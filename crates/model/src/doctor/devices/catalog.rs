//! The checks of devices by name.

/// Every check of devices: stable name, and what it checks.
pub const CHECKS: &[(&str, &str)] = &[
    ("assignable", "whether the assembly can be handed over at all"),
    ("bar-window", "whether the device's memory fits into a guest's address space"),
    ("boot-framebuffer", "a firmware framebuffer on a BAR"),
    ("boot-vga", "whether the host's console runs on the GPU"),
    ("claimed", "a claim has the device, or it needs manual attention"),
    ("dcgm", "NVIDIA's Data Center GPU Manager holds the GPU"),
    ("display-server", "a display server or desktop holds the GPU"),
    ("driver-override", "a driver that another tool set for the device"),
    ("fabric", "GPUs that NVLink or NVSwitch joins to others"),
    ("group-isolation", "devices that share the IOMMU group, and the bridge that causes it"),
    ("holder", "programs, mounts and the host's network, if they use the device"),
    ("link", "a PCI Express link that is narrower or slower than it could be"),
    ("native-driver", "the driver that takes the device when the host boots"),
    ("nouveau", "nouveau on the only NVIDIA GPU, which can be kept from it"),
    ("nvidia-persistenced", "NVIDIA's persistence daemon holds the GPU"),
    ("parity", "devices whose parity errors are ignored"),
    ("power", "devices that are suspended or powered off"),
    ("remote-desktop", "a remote-desktop server holds the GPU"),
    ("removable", "devices that can be unplugged (Thunderbolt)"),
    ("reset", "whether and how far the kernel can reset the device"),
    ("reset-bug", "devices that are known not to survive a reset"),
    ("resizable-bar", "BARs that can be resized"),
    ("sriov", "virtual functions: possible, missing, present"),
    ("unreadable", "what could not be read of the device"),
    ("vfio-variant", "a vfio driver made for the device"),
    ("vgpu", "how a GPU is split"),
    ("x11-config", "files of the X server's configuration that give it the GPU"),
];

/// Checks for current users of a device.
const USES: [&str; 6] =
    ["claimed", "holder", "display-server", "remote-desktop", "nvidia-persistenced", "dcgm"];

/// Checks for partitions of a device.
const SPLITS: [&str; 2] = ["sriov", "vgpu"];

/// Checks that are shown only for a single device.
const ON_REQUEST: [&str; 3] = ["resizable-bar", "vfio-variant", "fabric"];

/// Checks that an overview shows for GPUs and accelerators only: the host's network cards and disks normally have
/// drivers.
const OF_PRECIOUS: [&str; 5] =
    ["native-driver", "driver-override", "boot-vga", "nouveau", "x11-config"];

/// Whether the check looks for current users of a device.
pub fn is_use(check: &str) -> bool {
    USES.contains(&check)
}

/// Whether the check looks for partitions of a device.
pub fn is_split(check: &str) -> bool {
    SPLITS.contains(&check)
}

/// Whether an overview of the host shows the check's findings, for a GPU or accelerator (`precious`) or for another
/// device.
pub fn in_overview(check: &str, precious: bool) -> bool {
    !ON_REQUEST.contains(&check) && (precious || !OF_PRECIOUS.contains(&check))
}
