//! The BARs of the host's functions.

use std::fs;
use std::path::Path;

use model::{Address, GuestSlot};

/// `IORESOURCE_IO`, `IORESOURCE_MEM`, `IORESOURCE_PREFETCH` and `IORESOURCE_MEM_64` (include/linux/ioport.h).
pub const IO: u64 = 0x100;
pub const MEMORY: u64 = 0x200;
pub const PREFETCHABLE: u64 = 0x2000;
pub const WIDE: u64 = 0x10_0000;

/// A BAR of a function.
pub struct Bar {
    /// Its size, rounded up to a power of two.
    pub size: u64,
    pub flags: u64,
}

/// The BARs of a function; none if they cannot be read.
pub fn of(root: &Path, address: Address) -> Vec<Bar> {
    let file = root.join("sys/bus/pci/devices").join(address.to_string()).join("resource");
    fs::read_to_string(file).map_or(Vec::new(), |text| parsed(&text))
}

/// The memory of all BARs of these devices, in bytes.
pub fn memory<'a>(root: &Path, slots: impl Iterator<Item = &'a GuestSlot>) -> u64 {
    let all = slots.flat_map(GuestSlot::addresses).flat_map(|address| of(root, address));
    all.filter(|bar| bar.flags & MEMORY != 0).map(|bar| bar.size).fold(0, u64::saturating_add)
}

/// The BARs in `resource`, which has a line for each region: start, end, flags (Documentation/filesystems/sysfs-pci). The
/// first six are BARs.
pub fn parsed(resource: &str) -> Vec<Bar> {
    let regions = resource.lines().take(6).filter_map(|line| {
        let mut fields = line.split(' ').map(|field| {
            field.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok())
        });
        let (start, end, flags) = (fields.next()??, fields.next()??, fields.next()??);
        let size = (end > start).then(|| (end - start).checked_next_power_of_two())??;
        Some(Bar { size, flags })
    });
    regions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_lines_are_skipped() {
        let garbage = "0x0 0xffffffffffffffff 0x14220c\ngarbage\n\n0x1 0x0 0x14220c";
        assert!(parsed(garbage).is_empty());
    }

    #[test]
    fn the_memory_of_all_functions_counts_and_io_ports_do_not() {
        let root = tempfile::tempdir().unwrap();
        let slot = GuestSlot::place(["0000:01:00.0", "0000:01:00.1"].map(|at| at.parse().unwrap()));
        for address in slot.addresses() {
            let dir = root.path().join("sys/bus/pci/devices").join(address.to_string());
            fs::create_dir_all(&dir).unwrap();
            let text = "0x00000000d8000000 0x00000000d8ffffff 0x0000000000040200\n\
                        0x000000000000e000 0x000000000000e01f 0x0000000000040101\n";
            fs::write(dir.join("resource"), text).unwrap();
        }
        assert_eq!(memory(root.path(), [slot].iter()), 32 << 20);
    }
}
