//! The size of the guest's 64-bit MMIO window, which must hold the BARs of all passed-through devices.

use std::fs;
use std::path::Path;

use model::{Address, MachineSpec};

/// QEMU's default for a q35 machine (`Q35_PCI_HOST_HOLE64_SIZE_DEFAULT` in hw/pci-host/q35.c).
const DEFAULT: u64 = 32 << 30;

/// `IORESOURCE_MEM` and `IORESOURCE_MEM_64` (include/linux/ioport.h).
const MEMORY: u64 = 0x200;
const WIDE: u64 = 0x10_0000;

/// The size of the window, if the default is too small. A function that cannot be read is skipped: QEMU will report the
/// error.
pub fn needed(root: &Path, spec: &MachineSpec) -> Option<u64> {
    let functions = spec.slots.iter().flat_map(|slot| &slot.functions);
    let addresses = functions.filter_map(|function| function.source.function());
    let total: u64 = addresses.map(|address| wide_bars(root, address)).fold(0, u64::saturating_add);
    // Each BAR is aligned to its own size, so twice the sum is enough in any order.
    let window = total.checked_mul(2)?.checked_next_power_of_two()?;
    (window > DEFAULT).then_some(window)
}

/// The sum of a function's 64-bit memory BARs, each rounded up to a power of two.
fn wide_bars(root: &Path, address: Address) -> u64 {
    let file = root.join("sys/bus/pci/devices").join(address.to_string()).join("resource");
    fs::read_to_string(file).map_or(0, |text| sum(&text))
}

/// Sums the BARs in `resource`, which has a line for each region: start, end, flags
/// (Documentation/filesystems/sysfs-pci). The first six are BARs.
fn sum(resource: &str) -> u64 {
    let regions = resource.lines().take(6).filter_map(|line| {
        let mut fields = line.split(' ').map(|field| {
            field.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok())
        });
        let (start, end, flags) = (fields.next()??, fields.next()??, fields.next()??);
        let wide = flags & (MEMORY | WIDE) == MEMORY | WIDE;
        (wide && end > start).then(|| end - start)
    });
    regions.filter_map(|size| size.checked_next_power_of_two()).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{GuestSlot, MachineSpec};
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
            disks: Vec::new(),
            slots: addresses.iter().map(|address| GuestSlot::place([*address])).collect(),
            options: model::MachineOptions::default(),
        }
    }

    #[test]
    fn two_large_gpus_need_a_larger_window_and_small_devices_none() {
        let root = tempfile::tempdir().unwrap();
        let addresses: Vec<Address> = (1..4).filter_map(|bus| Address::new(0, bus, 0, 0)).collect();
        let small = "0x00000000d8000000 0x00000000d8003fff 0x0000000000140204\n";
        for (address, text) in addresses.iter().zip([LARGE, LARGE, small]) {
            let dir = root.path().join("sys/bus/pci/devices").join(address.to_string());
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("resource"), text).unwrap();
        }
        assert_eq!(needed(root.path(), &spec(&addresses[..2])), Some(1 << 40));
        assert_eq!(needed(root.path(), &spec(&addresses[2..])), None);
        assert_eq!(needed(root.path(), &spec(&[Address::new(0, 9, 0, 0).unwrap()])), None);
    }

    #[test]
    fn malformed_lines_are_skipped() {
        assert_eq!(sum("0x0 0xffffffffffffffff 0x14220c\ngarbage\n\n0x1 0x0 0x14220c"), 0);
    }
}
