//! Base address registers, from the `resource` attribute, which has a line `start end flags` for each.

use model::Bar;

// include/linux/ioport.h
const IORESOURCE_IO: u64 = 0x0000_0100;
const IORESOURCE_MEM: u64 = 0x0000_0200;
const IORESOURCE_PREFETCH: u64 = 0x0000_2000;
const IORESOURCE_MEM_64: u64 = 0x0010_0000;
const IORESOURCE_UNSET: u64 = 0x2000_0000;

/// The six BARs and the expansion ROM (`PCI_ROM_RESOURCE`); VF BARs and bridge windows follow.
const BARS: usize = 7;

/// Parses the BARs that have a size; the second value is whether every line could be parsed.
pub fn read(resource: &str) -> (Vec<Bar>, bool) {
    let mut understood = true;
    let mut bars = Vec::new();
    for (index, line) in (0u8..).zip(resource.lines().take(BARS)) {
        match bar(index, line) {
            Some(found) => bars.extend(found),
            None => understood = false,
        }
    }
    (bars, understood)
}

/// Parses one line; `Some(None)` is a BAR that does not exist.
fn bar(index: u8, line: &str) -> Option<Option<Bar>> {
    let mut fields = line.split_ascii_whitespace().map(|field| {
        field.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok())
    });
    let (start, end, flags) = (fields.next()??, fields.next()??, fields.next()??);
    let io = flags & IORESOURCE_IO != 0;
    if !io && flags & IORESOURCE_MEM == 0 {
        return Some(None);
    }
    Some(Some(Bar {
        index,
        start,
        size: end.checked_sub(start)?.checked_add(1)?,
        io,
        is_64bit: flags & IORESOURCE_MEM_64 != 0,
        prefetchable: flags & IORESOURCE_PREFETCH != 0,
        unassigned: flags & IORESOURCE_UNSET != 0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_gpu_shows() {
        let (bars, understood) = read(
            "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200\n\
             0x0000380000000000 0x0000380fffffffff 0x000000000014220c\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x0000000000006000 0x000000000000607f 0x0000000000040101\n",
        );
        assert!(understood);
        let shown: Vec<_> = bars.iter().map(|b| (b.index, b.size, b.io, b.is_64bit)).collect();
        assert_eq!(
            shown,
            [(0, 16 << 20, false, false), (1, 64 << 30, false, true), (3, 128, true, false)]
        );
        assert!(bars.iter().all(|bar| bar.prefetchable == (bar.index == 1)));
    }

    /// The kernel keeps the size, as an address from 0.
    #[test]
    fn a_bar_that_the_firmware_left_no_room_for() {
        let (bars, _) = read("0x0000000000000000 0x0000001fffffffff 0x000000002014220c\n");
        assert_eq!(
            bars.iter().map(|bar| (bar.unassigned, bar.size)).collect::<Vec<_>>(),
            [(true, 128 << 30)]
        );
    }

    #[test]
    fn malformed_lines_are_reported_and_skipped() {
        let (bars, understood) = read("0x10 0x0 0x200\nhello\n0x0 0xff 0x200\n");
        assert!(!understood);
        assert_eq!(bars.iter().map(|bar| bar.index).collect::<Vec<_>>(), [2]);
    }
}
