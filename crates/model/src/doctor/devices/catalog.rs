//! The names of the checks of devices.

/// Every check of devices: its stable name, and what it looks for.
pub const CHECKS: &[(&str, &str)] = &[
    ("assignable", "whether the assembly can be handed over at all"),
    ("bar-window", "whether the device's memory fits into a guest's address space"),
    ("boot-framebuffer", "a framebuffer of the firmware's that lies on a BAR"),
    ("boot-vga", "whether the host's console runs on the GPU"),
    ("dcgm", "NVIDIA's Data Center GPU Manager holds the GPU"),
    ("display-server", "a display server or desktop holds the GPU"),
    ("driver-override", "what another tool has set for the device's driver"),
    ("fabric", "GPUs that NVLink or NVSwitch joins to others"),
    ("group-isolation", "who shares the IOMMU group, and which bridge is the reason"),
    ("holder", "programs, mounts and routes that use the device"),
    ("link", "a PCI Express link that is narrower or slower than it could be"),
    ("native-driver", "the driver that takes the device when the host boots"),
    ("nvidia-persistenced", "NVIDIA's persistence daemon holds the GPU"),
    ("power", "devices that sleep or are cut off from power"),
    ("remote-desktop", "a remote-desktop server holds the GPU"),
    ("reset", "whether and how far the kernel can reset the device"),
    ("reset-bug", "devices that are known not to survive a reset"),
    ("resizable-bar", "BARs whose size can be chosen"),
    ("sriov", "virtual functions: possible, missing, present"),
    ("unreadable", "what could not be read of the device"),
    ("vfio-variant", "a vfio driver made for the device"),
    ("vgpu", "by which mechanism a GPU is split"),
];

/// Checks that tell who uses a device now.
const USES: [&str; 5] =
    ["holder", "display-server", "remote-desktop", "nvidia-persistenced", "dcgm"];

/// Checks that tell in which parts a device is.
const SPLITS: [&str; 2] = ["sriov", "vgpu"];

/// Checks that only somebody who asks for one device wants to read.
const ON_REQUEST: [&str; 3] = ["resizable-bar", "vfio-variant", "fabric"];

/// Checks that are told of GPUs and accelerators only, when nobody asked for the device: the host's own network cards and
/// disks have their drivers and users by right.
const OF_PRECIOUS: [&str; 4] = ["assignable", "native-driver", "driver-override", "boot-vga"];

/// Whether a check tells who uses a device.
pub fn is_use(check: &str) -> bool {
    USES.contains(&check)
}

/// Whether a check tells in which parts a device is.
pub fn is_split(check: &str) -> bool {
    SPLITS.contains(&check)
}

/// Whether a check's findings are told in an overview of the host, of a GPU or accelerator (`precious`) or of another
/// device.
pub fn in_overview(check: &str, precious: bool) -> bool {
    !ON_REQUEST.contains(&check) && (precious || !(is_use(check) || OF_PRECIOUS.contains(&check)))
}
