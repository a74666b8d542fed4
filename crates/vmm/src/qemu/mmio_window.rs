//! The guest's address space for devices: the 64-bit MMIO window, which must hold the BARs of all passed-through devices,
//! and what each port for a device that may come has room for.

use std::fs;
use std::path::Path;

use model::shown::bytes;
use model::{GuestSlot, LaunchError, MachineSpec};

use crate::bars::{self, Bar, IO, MEMORY, PREFETCHABLE, WIDE};

/// QEMU's default for a q35 machine (`Q35_PCI_HOST_HOLE64_SIZE_DEFAULT` in hw/pci-host/q35.c).
const DEFAULT: u64 = 32 << 30;

/// What is below the guest's memory above 4 GiB.
const BELOW: u64 = 4 << 30;

/// The smallest windows of a port for devices that may come. Without a size of their own, the firmware gives it as much.
const LEAST_PREFETCHABLE: u64 = 32 << 20;
const LEAST_MEMORY: u64 = 2 << 20;

/// Physical address bits of QEMU's emulated processors (`TCG_PHYS_ADDR_BITS` in target/i386/cpu.h).
const EMULATED_BITS: u32 = 40;

/// The most ports that get a range of I/O ports: the firmware has few, 4 KiB for each.
const MOST_IO: u32 = 4;

/// The address space that the BARs of a slot need behind their port, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// For 64-bit prefetchable BARs.
    pub prefetchable: u64,
    /// For all other memory BARs: behind a bridge they are below 4 GiB (PCI-to-PCI Bridge Architecture Specification, 3.2.5.8).
    pub memory: u64,
    /// Whether it has BARs for I/O ports.
    pub io: bool,
}

impl Room {
    /// What a slot needs: each BAR is aligned to its own size, and the window to its largest BAR. What cannot be read is not
    /// counted: QEMU will report the error. Mediated devices do not tell.
    pub fn of(root: &Path, slot: &GuestSlot) -> Self {
        let bars: Vec<Bar> = slot.addresses().flat_map(|address| bars::of(root, address)).collect();
        let sum = |wide: bool| {
            let sizes = bars.iter().filter(|bar| bar.flags & MEMORY != 0);
            let sizes = sizes
                .filter(|bar| (bar.flags & (WIDE | PREFETCHABLE) == WIDE | PREFETCHABLE) == wide);
            let total = sizes.map(|bar| bar.size).fold(0, u64::saturating_add);
            if total == 0 { 0 } else { total.checked_next_power_of_two().unwrap_or(u64::MAX) }
        };
        Self {
            prefetchable: sum(true),
            memory: sum(false),
            io: bars.iter().any(|bar| bar.flags & IO != 0),
        }
    }

    /// The larger of both.
    fn or(self, other: Self) -> Self {
        Self {
            prefetchable: self.prefetchable.max(other.prefetchable),
            memory: self.memory.max(other.memory),
            io: self.io || other.io,
        }
    }
}

/// The address space of a machine for its devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressSpace {
    /// The size of the guest's 64-bit MMIO window, if the default is too small.
    pub window: Option<u64>,
    /// What each port for a device that may come has room for.
    pub spare: Room,
    /// How many of these ports have it. The others have little, because the processor's addresses do not reach further.
    pub sized: u32,
    /// How many of these ports have a range of I/O ports.
    pub io: u32,
    /// The most physical address bits that the guest's processor may have, if the host's are too many.
    pub most_bits: Option<u32>,
    /// The address bits of the guest's processor.
    pub bits: u32,
    /// What the devices of the start need, each port's in a power of two.
    pub own: u64,
    /// The same with the spare ports.
    pub needed: u64,
    /// The most that the processor's addresses have room for.
    pub most: u64,
}

/// The address space that a machine needs.
pub fn plan(root: &Path, spec: &MachineSpec, is_emulated: bool) -> AddressSpace {
    let own = spec.slots.iter().map(|slot| wide(root, slot)).fold(0, u64::saturating_add);
    let least = Room { prefetchable: LEAST_PREFETCHABLE, memory: LEAST_MEMORY, io: false };
    let devices = spec.spare.devices.iter();
    let spare = devices.map(|slot| Room::of(root, slot)).fold(least, Room::or);
    let processor = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let most_bits = if is_emulated { None } else { below_hypertransport(&processor) };
    let host_bits = if is_emulated { EMULATED_BITS } else { address_bits(&processor) };
    let bits = most_bits.unwrap_or(host_bits);
    // QEMU refuses a window that ends above the processor's addresses (pc_max_used_gpa in hw/i386/pc.c).
    let end = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
    let most = (end / 2).min(end.saturating_sub(spec.memory.saturating_add(BELOW)));
    let needed =
        |sized: u32| own.saturating_add(spare.prefetchable.saturating_mul(u64::from(sized)));
    let window = |sized: u32| {
        // Each port's window is aligned to its own size, so twice the sum is enough in any order.
        let twice = needed(sized).saturating_mul(2).checked_next_power_of_two().unwrap_or(u64::MAX);
        if twice > DEFAULT { twice } else { 0 }
    };
    let sized = (0..=spec.spare.count).rev().find(|sized| window(*sized) <= most).unwrap_or(0);
    let io = if spare.io { spec.spare.count.min(MOST_IO) } else { 0 };
    let (window, needed) = (window(sized), needed(sized));
    // The firmware may find an order that wastes nothing.
    let window = Some(if window > most { needed } else { window }).filter(|size| *size > 0);
    AddressSpace { window, spare, sized, io, most_bits, bits, own, needed, most }
}

/// What the 64-bit BARs of a slot need, in bytes: its port's window is a power of two.
fn wide(root: &Path, slot: &GuestSlot) -> u64 {
    let bars = slot.addresses().flat_map(|address| bars::of(root, address));
    let wide = bars.filter(|bar| bar.flags & (MEMORY | WIDE) == MEMORY | WIDE);
    let total = wide.map(|bar| bar.size).fold(0, u64::saturating_add);
    if total == 0 { 0 } else { total.checked_next_power_of_two().unwrap_or(u64::MAX) }
}

impl AddressSpace {
    /// Refuses devices that the processor's addresses have no room for: QEMU would not start, or the guest would not see them.
    pub fn expect_fit(&self) -> Result<(), LaunchError> {
        if self.own <= self.most {
            return Ok(());
        }
        Err(LaunchError::AddressSpace {
            reason: format!(
                "the devices need {} of 64-bit address space, and beside the memory the processor's {} address bits leave {}",
                bytes(self.own),
                self.bits,
                bytes(self.most)
            ),
        })
    }

    /// What the port with this number among those that are spare has room for.
    pub fn spare_port(&self, number: u32) -> Room {
        let io = number < self.io;
        if number < self.sized {
            return Room { io, ..self.spare };
        }
        Room { prefetchable: LEAST_PREFETCHABLE, memory: LEAST_MEMORY, io }
    }
}

/// The limit of address bits for AMD's processors with 40: the firmware places the window at their end, and below 1 TiB they
/// have a range for HyperTransport, which Linux gives no device that comes later (`AMD_HT_START` in hw/i386/pc.c).
fn below_hypertransport(cpuinfo: &str) -> Option<u32> {
    let is_amd =
        cpuinfo.lines().any(|line| line.starts_with("vendor_id") && line.ends_with("AuthenticAMD"));
    (is_amd && address_bits(cpuinfo) == 40).then_some(39)
}

/// The processor's physical address bits, from the line `address sizes : 46 bits physical, 48 bits virtual` of
/// `/proc/cpuinfo`.
fn address_bits(cpuinfo: &str) -> u32 {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("address sizes"));
    let bits = line.and_then(|line| line.trim_start_matches([' ', '\t', ':']).split(' ').next());
    bits.and_then(|bits| bits.parse().ok()).unwrap_or(EMULATED_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Address, MachineSpec, SparePorts};
    use uuid::Uuid;

    /// A data-centre GPU: 16 MiB, 128 GiB and 32 MiB.
    const LARGE: &str = "0x00000000d8000000 0x00000000d8ffffff 0x0000000000040200\n\
        0x0000202000000000 0x0000203fffffffff 0x000000000014220c\n\
        0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
        0x0000204040000000 0x0000204041ffffff 0x000000000014220c\n";

    fn spec(addresses: &[Address]) -> MachineSpec {
        MachineSpec {
            id: Uuid::nil(),
            name: "m".into(),
            uid: 1,
            vcpus: 1,
            memory: 1 << 30,
            huge_pages: None,
            placement: None,
            kernel: None,
            disk: None,
            container: None,
            disks: Vec::new(),
            slots: addresses.iter().map(|address| GuestSlot::place([*address])).collect(),
            access: model::DeviceAccess::Groups,
            spare: SparePorts::default(),
            usb: Vec::new(),
            options: model::MachineOptions::default(),
        }
    }

    fn host(devices: &[&str]) -> (tempfile::TempDir, Vec<Address>) {
        let root = tempfile::tempdir().unwrap();
        let addresses: Vec<Address> = (1..4).filter_map(|bus| Address::new(0, bus, 0, 0)).collect();
        for (address, text) in addresses.iter().zip(devices) {
            let dir = root.path().join("sys/bus/pci/devices").join(address.to_string());
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("resource"), text).unwrap();
        }
        (root, addresses)
    }

    const SMALL: &str = "0x00000000d8000000 0x00000000d8003fff 0x0000000000140204\n\
        0x000000000000e000 0x000000000000e01f 0x0000000000040101\n";

    #[test]
    fn two_large_gpus_need_a_larger_window_and_small_devices_none() {
        let (root, addresses) = host(&[LARGE, LARGE, SMALL]);
        let window = |addresses: &[Address]| plan(root.path(), &spec(addresses), false).window;
        assert_eq!(window(&addresses[..2]), Some(1 << 39), "half of what 40 bits reach");
        fs::create_dir(root.path().join("proc")).unwrap();
        let text = "address sizes\t: 46 bits physical, 48 bits virtual\n";
        fs::write(root.path().join("proc/cpuinfo"), text).unwrap();
        assert_eq!(window(&addresses[..2]), Some(1 << 40));
        assert_eq!(window(&addresses[2..]), None);
        assert_eq!(window(&[Address::new(0, 9, 0, 0).unwrap()]), None);
    }

    #[test]
    fn devices_without_room_are_refused_with_the_figures() {
        let (root, addresses) = host(&[LARGE, LARGE, LARGE]);
        fs::create_dir(root.path().join("proc")).unwrap();
        let fit = |bits: u32, memory: u64, count: usize| {
            let text = format!("address sizes\t: {bits} bits physical, 48 bits virtual\n");
            fs::write(root.path().join("proc/cpuinfo"), text).unwrap();
            let spec = MachineSpec { memory, ..spec(&addresses[..count]) };
            let space = plan(root.path(), &spec, false);
            (space.window, space.expect_fit().map_err(|error| error.to_string()))
        };
        // 256 GiB each; 39 bits are 512 GiB.
        assert_eq!(fit(39, 1 << 30, 1), (Some(256 << 30), Ok(())));
        let (_, refused) = fit(39, 1 << 30, 2);
        let refused = refused.unwrap_err();
        assert!(
            refused.contains("need 512 GB") && refused.contains("39 address bits leave 256 GB"),
            "{refused}"
        );
        assert_eq!(fit(41, 1 << 30, 3), (Some(768 << 30), Ok(())), "clamped");
        // The memory takes what is left of it.
        assert!(fit(40, 800 << 30, 1).1.is_err());
        assert_eq!(fit(46, 800 << 30, 3), (Some(2 << 40), Ok(())));
    }

    #[test]
    fn ports_that_are_spare_have_room_for_the_largest_device() {
        let (root, addresses) = host(&[LARGE, SMALL]);
        let slots = |of: &[Address]| of.iter().map(|one| GuestSlot::place([*one])).collect();
        let with = |devices: &[Address], count| MachineSpec {
            spare: SparePorts { count, devices: slots(devices) },
            ..spec(&[])
        };
        let small = plan(root.path(), &with(&addresses[1..2], 4), true);
        assert_eq!((small.window, small.sized, small.io), (None, 4, 4));
        assert_eq!((small.spare.prefetchable, small.spare.memory), (32 << 20, 2 << 20));
        let large = Room::of(root.path(), &GuestSlot::place([addresses[0]]));
        assert_eq!(large, Room { prefetchable: 256 << 30, memory: 16 << 20, io: false });
        // 39 bits reach less far than two such windows.
        fs::create_dir(root.path().join("proc")).unwrap();
        let cpu = |bits: u32| {
            let text = format!("x\t: 1\naddress sizes\t: {bits} bits physical, 48 bits virtual\n");
            fs::write(root.path().join("proc/cpuinfo"), text).unwrap();
            let space = plan(root.path(), &with(&addresses[..2], 4), false);
            (space.window, space.sized, space.spare_port(3).prefetchable)
        };
        assert_eq!(cpu(46), (Some(2 << 40), 4, 256 << 30));
        assert_eq!(cpu(39), (None, 0, 32 << 20));
        assert_eq!(cpu(41), (Some(1 << 40), 2, 32 << 20));
        let amd = |bits| {
            format!(
                "vendor_id\t: AuthenticAMD\naddress sizes\t: {bits} bits physical, 48 bits virtual\n"
            )
        };
        assert_eq!(below_hypertransport(&amd(40)), Some(39));
        assert_eq!(below_hypertransport(&amd(48)), None);
        assert_eq!(
            below_hypertransport("vendor_id\t: GenuineIntel\naddress sizes\t: 40 bits\n"),
            None
        );
    }
}
