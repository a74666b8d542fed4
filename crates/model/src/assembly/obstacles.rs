//! Why an assembly cannot be handed over.

use super::Assembly;
use crate::{Address, Code, Function, Inventory, Kind, Refusal};

impl Assembly {
    /// Every reason why this assembly cannot be handed over on this host; empty if it can.
    #[must_use]
    pub fn obstacles(&self, inventory: &Inventory) -> Vec<Refusal> {
        let Some(head) = inventory.function(self.head) else {
            return vec![no_such_function(self.head)];
        };
        if head.kind() == Kind::Bridge {
            return vec![Refusal::new(
                Code::NotAssignable,
                format!(
                    "{} is a PCI bridge, which is part of the host and cannot be handed over",
                    self.head
                ),
                "choose a device behind it; `handover ls` lists the devices that can be handed over",
            )];
        }
        let mut reasons = host_obstacles(inventory, head);
        reasons.extend(parent_obstacle(inventory, head));
        for member in self.taken() {
            if let Some(function) = inventory.function(member.address) {
                reasons.extend(member_obstacle(self.head, function));
                reasons.extend(firmware_obstacle(inventory, function));
                reasons.extend(unusable(function));
            }
        }
        reasons
    }

    /// Whether the assembly is a part of the host itself, which is never handed over: a bridge, or a group with a host or
    /// ISA bridge.
    #[must_use]
    pub fn is_of_the_host(&self, inventory: &Inventory) -> bool {
        let kind = |address| inventory.function(address).map(Function::kind);
        let fabric = |address| inventory.function(address).is_some_and(is_fabric);
        kind(self.head) == Some(Kind::Bridge) || self.taken().any(|member| fabric(member.address))
    }
}

/// The refusal for an address without a function.
#[must_use]
pub fn no_such_function(address: Address) -> Refusal {
    Refusal::new(
        Code::DeviceNotFound,
        format!("no PCI function at {address}"),
        "`handover ls --all` lists all functions; addresses can change between boots",
    )
}

/// The remedy for a function that does not respond any more.
#[must_use]
pub fn power_cycle(address: Address) -> String {
    format!(
        "shut the host down and cut its power for a moment (a reboot often leaves the card powered), then check that the device \
         is back: `lspci -s {address}`"
    )
}

/// How a virtual machine gets an IOMMU: its firmware has nothing to enable.
pub const VIRTUAL_IOMMU: &str =
    "give this machine a virtual IOMMU (QEMU: -device intel-iommu,intremap=on,caching-mode=on)";

/// Obstacles of the host for this function.
fn host_obstacles(inventory: &Inventory, head: &Function) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    if inventory.vfio.unsafe_noiommu {
        reasons.push(Refusal::new(
            Code::NoIommu,
            "vfio's unsafe noiommu mode is enabled: a machine could write to all of the host's memory",
            "echo 0 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and remove the option from /etc/modprobe.d",
        ));
    }
    if inventory.vfio.xen_dom0 {
        return vec![Refusal::new(
            Code::NoIommu,
            "this is a Xen dom0: the hypervisor has the IOMMU, so VFIO is not possible",
            "boot this host without Xen, or use Xen's own way: `xl pci-assignable-add ADDRESS`",
        )];
    }
    if !inventory.vfio.iommu {
        let enable = if inventory.vfio.virtual_machine {
            VIRTUAL_IOMMU
        } else {
            "enable VT-d or AMD-Vi in the firmware"
        };
        reasons.push(Refusal::new(
            Code::NoIommu,
            "this kernel has no active IOMMU, so no device can be isolated from the host's memory",
            format!(
                "{enable}; on Intel, also boot with intel_iommu=on on the kernel's command line; `handover doctor` shows what \
                 this host lacks"
            ),
        ));
    } else if head.iommu_group.is_none() {
        reasons.push(Refusal::new(
            Code::NoIommu,
            format!("{} is in no IOMMU group, so no IOMMU covers it", head.address),
            "check `dmesg | grep -i -e DMAR -e AMD-Vi` for its IOMMU; firmware tables may omit it",
        ));
    }
    reasons.extend(forged_interrupts(inventory));
    if !inventory.vfio.vfio_pci || !inventory.vfio.type1 {
        reasons.push(Refusal::new(
            Code::VfioMissing,
            "this kernel has no usable VFIO: vfio-pci or vfio_iommu_type1 is not loaded and not available",
            "run `modprobe -a vfio-pci vfio_iommu_type1`; if they are missing, install the distribution's full kernel \
             image",
        ));
    }
    reasons
}

/// The obstacle of an IOMMU that remaps no interrupts, such as virtio-iommu: VFIO refuses each device when a machine opens it
/// (`vfio_iommu_type1_attach_group` in drivers/vfio/vfio_iommu_type1.c, `iommufd_device_bind` in
/// drivers/iommu/iommufd/device.c).
fn forged_interrupts(inventory: &Inventory) -> Option<Refusal> {
    (inventory.vfio.iommu && inventory.vfio.unmapped_interrupts).then(|| {
        Refusal::new(
            Code::NoIommu,
            "the IOMMU does not remap interrupts, so a device could raise any interrupt on the host, and vfio refuses to hand \
             it over",
            "`handover doctor` (interrupt-remapping) shows what disables it and how to enable it on this host",
        )
    })
}

/// The obstacle of one member.
fn member_obstacle(head: Address, function: &Function) -> Option<Refusal> {
    let address = function.address;
    if !function.virtual_functions().is_empty() {
        return Some(Refusal::new(
            Code::InUse,
            format!(
                "{address} has {}: a whole device and its partitions exclude each other",
                counted(function.virtual_functions().len(), "virtual function")
            ),
            format!("hand over one of its VFs, or remove them: handover sriov set {address} 0"),
        ));
    }
    if let Some(first) = function.mdevs.first() {
        return Some(Refusal::new(
            Code::InUse,
            format!(
                "{address} is the parent of {}: a whole device and its partitions exclude each other",
                counted(function.mdevs.len(), "mediated device")
            ),
            format!(
                "remove each one when it is unused: `echo 1 > /sys/bus/mdev/devices/{}/remove`; `handover show {address}` \
                 lists them",
                first.uuid
            ),
        ));
    }
    if !is_fabric(function) {
        return None;
    }
    let driver = function.driver.as_deref().unwrap_or("no driver");
    Some(if address == head {
        Refusal::new(
            Code::NotAssignable,
            format!("{address} is a bridge of the host and cannot be handed over"),
            "choose a device; `handover ls` lists the devices that can be handed over",
        )
    } else {
        Refusal::new(
            Code::NotAssignable,
            format!(
                "{head} shares its IOMMU group with {address}, a bridge of the host (on {driver})"
            ),
            "move the card to a slot with its own IOMMU group; `handover ls --all` shows the groups",
        )
    })
}

/// `1 mediated device`, `2 mediated devices`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Host and ISA bridges (0600, 0601) belong to the firmware and the chipset.
const fn is_fabric(function: &Function) -> bool {
    matches!(function.class.prefix(), 0x0600 | 0x0601)
}

/// The obstacle of a function that exists by another's driver, if that function is in its group: VFIO would need this driver
/// unbound, which removes the function.
fn parent_obstacle(inventory: &Inventory, head: &Function) -> Option<Refusal> {
    let address = head.address;
    if let Some(vmd) = head.behind {
        let driver = inventory.function(vmd).and_then(|vmd| vmd.driver.as_deref());
        let driver = driver.unwrap_or("its driver");
        return Some(Refusal::new(
            Code::NotAssignable,
            format!(
                "functions behind {vmd} exist only as long as it is on {driver}: they are in the PCI domain of that \
                 controller, and in its IOMMU group"
            ),
            format!(
                "hand over {vmd} as a whole: a machine with a driver for it sees all its drives; or switch VMD off in the \
                 firmware setup, then the drives are ordinary PCI devices (check first that the host itself can boot so)"
            ),
        ));
    }
    let parent = inventory.function(head.physical_function?)?;
    let shared = head.iommu_group.is_some() && parent.iommu_group == head.iommu_group;
    let driver = parent.driver.as_deref().filter(|_| shared && !parent.on_vfio())?;
    let parent = parent.address;
    Some(Refusal::new(
        Code::NotAssignable,
        format!(
            "{address} is a virtual function in the same IOMMU group as its physical function {parent}, which must stay on \
             {driver} for the VF to exist"
        ),
        format!(
            "hand over {parent} as a whole (handover sriov set {parent} 0 removes its VFs), or move the card to a slot whose \
             root port has Access Control Services (ACS); `handover topo` shows the slots"
        ),
    ))
}

/// The obstacle of memory that the firmware keeps for itself on a function (RMRR): the kernel refuses to attach the group
/// to a machine's domain (`device_rmrr_is_relaxable` in drivers/iommu/intel/iommu.c).
fn firmware_obstacle(inventory: &Inventory, function: &Function) -> Option<Refusal> {
    let number = function.iommu_group?;
    let group = inventory.groups.get(&number)?;
    let first = group.firmware_memory.first()?;
    let address = function.address;
    Some(Refusal::new(
        Code::NotAssignable,
        format!(
            "the firmware uses memory at {first} through {address} (an RMRR: type \"direct\" in \
             /sys/kernel/iommu_groups/{number}/reserved_regions), so the kernel lets no machine have it"
        ),
        "switch it off in the firmware: on HPE servers the option for shared memory of the slot (conrep, \"RMRDS\"), on others \
         legacy USB or management through this device; or install newer firmware",
    ))
}

/// The obstacle of a virtual function that becomes a vGPU when its type is set: its driver has VFIO of its own, and vfio-pci
/// cannot be bound to it.
fn no_vgpu_yet(function: &Function, full: bool) -> Refusal {
    let address = function.address;
    let parent = function.physical_function.unwrap_or(address);
    if full {
        return Refusal::new(
            Code::InsufficientResources,
            format!(
                "{address} is no vGPU, and cannot become one now: {parent} has no room for another"
            ),
            "release a vGPU of this GPU (`handover claims`), or use another GPU",
        );
    }
    Refusal::new(
        Code::InvalidState,
        format!("{address} is no vGPU yet: it has no type"),
        format!(
            "claim a profile, and Handover sets the type: `handover claim profile=NAME@{parent}`; `handover show {address}` \
             lists the profiles"
        ),
    )
}

/// The obstacle of a function that a machine could not use.
fn unusable(function: &Function) -> Option<Refusal> {
    let address = function.address;
    if function.detail.as_ref().is_some_and(|detail| detail.silent) {
        return Some(Refusal::new(
            Code::NotAssignable,
            format!("{address} does not respond: its configuration space reads as all ones"),
            power_cycle(address),
        ));
    }
    if let Some(vgpu) = function.vgpu().filter(|vgpu| vgpu.current.is_none()) {
        return Some(no_vgpu_yet(function, vgpu.creatable.is_empty()));
    }
    let lost: Vec<String> = function
        .bars
        .iter()
        .filter(|bar| bar.unassigned && !bar.io && bar.index < 6)
        .map(|bar| format!("BAR {} ({})", bar.index, crate::shown::bytes(bar.size)))
        .collect();
    if lost.is_empty() {
        return None;
    }
    Some(Refusal::new(
        Code::NotAssignable,
        format!("{address} has no address for {}: the firmware left no room", lost.join(" and ")),
        "enable Above 4G Decoding in the firmware setup (and a large enough MMIO size), or boot with pci=realloc on the kernel's \
         command line",
    ))
}
