//! The contents of the BARs: a page of registers, and memory.
//!
//! A page of memory is allocated at its first write, so that a BAR of 16 GiB costs nothing. Parts of a BAR without
//! memory read all ones, like a read without an answer (PCI Express Base 2.3.2).

use super::settings::{Bar, Settings};
use std::collections::BTreeMap;

const PAGE: usize = 4096;

/// The id register.
pub const ID: u64 = 0x000;
/// The number of resets.
pub const RESETS: u64 = 0x004;
/// A write raises an interrupt.
pub const DOORBELL: u64 = 0x008;
/// The start of the scratch memory of BAR 0.
pub const SCRATCH: u64 = PAGE as u64;

/// All BARs of one function.
#[derive(Debug)]
pub struct Bars {
    id: u32,
    resets: u32,
    rings: u32,
    spaces: BTreeMap<u32, Space>,
}

/// One BAR: the size of its memory, and its written pages.
#[derive(Debug)]
struct Space {
    backed: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Bars {
    /// The state at power-on: all memory reads 0.
    pub fn new(settings: &Settings) -> Self {
        let spaces = settings.bars.iter().map(|bar| (u32::from(bar.index), Space::new(bar)));
        Self { id: settings.boot0, resets: 0, rings: 0, spaces: spaces.collect() }
    }

    /// Reads from a BAR; accepts any BAR and any offset.
    pub fn read(&self, bar: u32, offset: u64, data: &mut [u8]) {
        for (at, byte) in (0u64..).zip(data) {
            *byte = offset.checked_add(at).map_or(0xff, |at| self.byte(bar, at));
        }
    }

    /// Writes to a BAR; returns whether the write rang the doorbell.
    #[must_use]
    pub fn write(&mut self, bar: u32, offset: u64, data: &[u8]) -> bool {
        let Some(space) = self.spaces.get_mut(&bar) else { return false };
        let mut rung = false;
        for (at, value) in (0u64..).zip(data) {
            match offset.checked_add(at) {
                Some(at) if is_register(bar, at) => rung |= at == DOORBELL,
                Some(at) => space.put(at, *value),
                None => {}
            }
        }
        self.rings = self.rings.wrapping_add(u32::from(rung));
        rung
    }

    /// Clears the memory, and counts the reset.
    pub fn reset(&mut self) {
        self.spaces.values_mut().for_each(|space| space.pages.clear());
        self.rings = 0;
        self.resets = self.resets.wrapping_add(1);
    }

    fn byte(&self, bar: u32, at: u64) -> u8 {
        let Some(space) = self.spaces.get(&bar) else { return 0xff };
        if !is_register(bar, at) {
            return space.get(at);
        }
        let word = match at & !3 {
            ID => self.id,
            RESETS => self.resets,
            DOORBELL => self.rings,
            _ => 0,
        };
        (word >> (8 * (at & 3))) as u8
    }
}

fn is_register(bar: u32, at: u64) -> bool {
    bar == 0 && at < SCRATCH
}

impl Space {
    fn new(bar: &Bar) -> Self {
        Self { backed: bar.memory.min(bar.size), pages: BTreeMap::new() }
    }

    fn get(&self, at: u64) -> u8 {
        if at >= self.backed {
            return 0xff;
        }
        self.pages.get(&(at / PAGE as u64)).map_or(0, |page| page[at as usize % PAGE])
    }

    fn put(&mut self, at: u64, value: u8) {
        if at < self.backed {
            let page = self.pages.entry(at / PAGE as u64).or_insert_with(|| Box::new([0; PAGE]));
            page[at as usize % PAGE] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars() -> Bars {
        let mut settings = Settings::default();
        let size = 64 << 30;
        let huge = Bar { index: 4, size, prefetchable: true, is_64bit: true, memory: size };
        settings.bars[0].memory = 0x3000;
        settings.bars = vec![settings.bars[0].clone(), huge];
        Bars::new(&settings)
    }

    fn read32(bars: &Bars, bar: u32, at: u64) -> u32 {
        let mut data = [0; 4];
        bars.read(bar, at, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn id_register_cannot_be_written() {
        let mut bars = bars();
        assert!(!bars.write(0, ID, &[0; 8]));
        assert_eq!(read32(&bars, 0, ID), 0x1700_00a1);
        assert_eq!(read32(&bars, 0, ID + 2), 0x1700, "unaligned, into the next register");
    }

    #[test]
    fn memory_keeps_what_is_written_also_across_pages() {
        let mut bars = bars();
        let pattern: Vec<u8> = (0..8192u32).map(|n| (n * 7) as u8).collect();
        for (bar, at) in [(0, SCRATCH), (4, 0), (4, (64 << 30) - 8192), (4, 123_456_789)] {
            assert!(!bars.write(bar, at, &pattern));
            let mut data = vec![0; pattern.len()];
            bars.read(bar, at, &mut data);
            assert_eq!(data, pattern, "BAR {bar} at {at:#x}");
        }
        assert!(bars.spaces[&4].pages.len() <= 7, "only what was written is stored");
    }

    #[test]
    fn unbacked_reads_are_all_ones() {
        let mut bars = bars();
        for (bar, at) in [(0, 0x3000), (0, 16 << 20), (4, 64 << 30), (1, 0), (9, 0), (4, u64::MAX)]
        {
            assert!(!bars.write(bar, at, &[1; 4]));
            assert_eq!(read32(&bars, bar, at), !0, "BAR {bar} at {at:#x}");
        }
        assert_eq!(read32(&bars, 0, 0x2ffe), 0xffff_0000, "half in, half out");
    }

    #[test]
    fn doorbell_rings_on_any_write_that_covers_it() {
        let mut bars = bars();
        assert!(bars.write(0, DOORBELL, &[0; 4]));
        assert!(bars.write(0, 0, &[0; 16]));
        assert!(!bars.write(0, DOORBELL + 4, &[1; 4]));
        assert!(!bars.write(4, DOORBELL, &[1; 4]));
        assert_eq!(read32(&bars, 0, DOORBELL), 2);
    }

    #[test]
    fn reset_clears_memory_and_counts() {
        let mut bars = bars();
        let _ = bars.write(0, SCRATCH, &[7; 4]);
        let _ = bars.write(4, 0, &[7; 4]);
        let _ = bars.write(0, DOORBELL, &[7; 4]);
        bars.reset();
        assert_eq!(read32(&bars, 0, SCRATCH), 0);
        assert_eq!(read32(&bars, 4, 0), 0);
        assert_eq!(read32(&bars, 0, DOORBELL), 0);
        assert_eq!(read32(&bars, 0, RESETS), 1);
    }
}
