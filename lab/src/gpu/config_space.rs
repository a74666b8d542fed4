//! The 4096 bytes of configuration space.
//!
//! Layout: the type 0 header (PCI Express Base 7.5.1), then, at the offsets of NVIDIA's boards, Power Management at
//! 0x60, MSI at 0x68 and PCI Express at 0x78, and Device Serial Number as the first extended capability at 0x100. A
//! mask defines the writable bits, and thereby BAR sizing (7.5.1.2.1): only the address bits from the size upwards are
//! writable.

use super::settings::{Bar, Settings};

const SIZE: usize = 4096;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BARS: usize = 0x10;
const PM: usize = 0x60;
const MSI: usize = 0x68;
const EXPRESS: usize = 0x78;
const DEVICE_CONTROL: usize = EXPRESS + 0x08;
const LINK_CONTROL: usize = EXPRESS + 0x10;
const SERIAL: usize = 0x100;

/// Device Control bit 15, in its high byte: Initiate Function Level Reset; reads 0 (7.5.3.4).
const INITIATE_FLR: u8 = 0x80;

/// Configuration space of one function: its bytes, the writable bits, and the values after a reset.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    initial: Vec<u8>,
}

impl ConfigSpace {
    /// The state at power-on.
    pub fn new(settings: &Settings) -> Self {
        let mut space = Self { bytes: vec![0; SIZE], writable: vec![0; SIZE], initial: Vec::new() };
        space.lay_out_header(settings);
        for bar in &settings.bars {
            space.lay_out_bar(bar);
        }
        space.lay_out_power_management();
        space.lay_out_msi();
        space.lay_out_express();
        if let Some(serial) = settings.serial {
            space.lay_out_serial(serial);
        }
        space.initial = space.bytes.clone();
        space
    }

    /// Reads; all ones after the end.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (0u64..).zip(data) {
            *byte = index(offset, at).and_then(|at| self.bytes.get(at)).copied().unwrap_or(0xff);
        }
    }

    /// Writes the writable bits; returns whether the write requests a function level reset, which the caller performs.
    #[must_use]
    pub fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        let mut reset = false;
        for (at, new) in (0u64..).zip(data) {
            let Some(at) = index(offset, at) else { continue };
            reset |= at == DEVICE_CONTROL + 1 && new & INITIATE_FLR != 0;
            if let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = (*byte & !mask) | (new & mask);
            }
        }
        reset
    }

    /// Restores the values at power-on, except the link's settings, which belong to both sides (6.6.2).
    pub fn reset(&mut self) {
        let link = self.word(LINK_CONTROL);
        self.bytes.clone_from(&self.initial);
        self.put16(LINK_CONTROL, link);
    }

    /// Whether the BARs are enabled: Memory Space Enable (7.5.1.1.3).
    pub fn memory_enabled(&self) -> bool {
        self.word(COMMAND) & 0x0002 != 0
    }

    /// Whether interrupts are sent as messages: MSI Enable (7.7.1.2).
    pub fn msi_enabled(&self) -> bool {
        self.word(MSI + 2) & 0x0001 != 0
    }

    fn lay_out_header(&mut self, settings: &Settings) {
        self.put16(0x00, settings.vendor);
        self.put16(0x02, settings.device);
        self.allow16(COMMAND, 0x0546); // memory, bus master, parity, SERR, INTx disable
        self.put16(STATUS, 0x0010); // has a capability list
        self.put32(0x08, settings.class << 8 | u32::from(settings.revision));
        self.allow(0x0c, 0xff); // cache line size: read-write, without effect
        self.put16(0x2c, settings.subsystem_vendor);
        self.put16(0x2e, settings.subsystem_device);
        self.put(0x34, PM as u8);
        self.allow(0x3c, 0xff); // interrupt line: for software only
        self.put(0x3d, 1); // INTA
    }

    fn lay_out_bar(&mut self, bar: &Bar) {
        let at = BARS + 4 * usize::from(bar.index);
        let address = !(bar.size - 1);
        self.put32(at, u32::from(bar.is_64bit) << 2 | u32::from(bar.prefetchable) << 3);
        self.allow32(at, address as u32 & !0xf);
        if bar.is_64bit {
            self.allow32(at + 4, (address >> 32) as u32);
        }
    }

    /// 7.5.2. No_Soft_Reset is set: leaving D3hot is no reset, so Linux resets by FLR only.
    fn lay_out_power_management(&mut self) {
        self.put16(PM, capability(0x01, MSI));
        self.put16(PM + 2, 0x0003); // version 3
        self.put16(PM + 4, 0x0008);
        self.allow16(PM + 4, 0x0003); // power state
    }

    /// 7.7.1. One vector, 64-bit address, no masking.
    fn lay_out_msi(&mut self) {
        self.put16(MSI, capability(0x05, EXPRESS));
        self.put16(MSI + 2, 0x0080);
        self.allow16(MSI + 2, 0x0001);
        self.allow32(MSI + 4, !0x3);
        self.allow32(MSI + 8, !0);
        self.allow16(MSI + 12, 0xffff);
    }

    /// 7.5.3. Version 2, endpoint, with FLR; a link of 16 lanes at 16 GT/s.
    fn lay_out_express(&mut self) {
        self.put16(EXPRESS, capability(0x10, 0));
        self.put16(EXPRESS + 0x02, 0x0002);
        self.put32(EXPRESS + 0x04, 0x1000_8001); // FLR, role-based errors, 256-byte payload
        self.allow16(DEVICE_CONTROL, 0x7fff);
        self.put32(EXPRESS + 0x0c, 0x0000_0104);
        self.allow16(LINK_CONTROL, 0x00c3);
        self.put16(EXPRESS + 0x12, 0x0104);
        self.put16(EXPRESS + 0x30, 0x0004); // target speed
    }

    /// 7.9.3.
    fn lay_out_serial(&mut self, serial: u64) {
        self.put32(SERIAL, 0x0001_0003); // the last one, version 1, id 3
        self.put32(SERIAL + 4, serial as u32);
        self.put32(SERIAL + 8, (serial >> 32) as u32);
    }

    fn word(&self, at: usize) -> u16 {
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or(0xff);
        u16::from_le_bytes([byte(at), byte(at + 1)])
    }

    fn put(&mut self, at: usize, value: u8) {
        fill(&mut self.bytes, at, &[value]);
    }

    fn put16(&mut self, at: usize, value: u16) {
        fill(&mut self.bytes, at, &value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        fill(&mut self.bytes, at, &value.to_le_bytes());
    }

    fn allow(&mut self, at: usize, mask: u8) {
        fill(&mut self.writable, at, &[mask]);
    }

    fn allow16(&mut self, at: usize, mask: u16) {
        fill(&mut self.writable, at, &mask.to_le_bytes());
    }

    fn allow32(&mut self, at: usize, mask: u32) {
        fill(&mut self.writable, at, &mask.to_le_bytes());
    }
}

/// First word of a capability: its id and the offset of the next one.
fn capability(id: u8, next: usize) -> u16 {
    u16::from_le_bytes([id, next as u8])
}

fn index(offset: u64, at: u64) -> Option<usize> {
    usize::try_from(offset.checked_add(at)?).ok()
}

fn fill(bytes: &mut [u8], at: usize, values: &[u8]) {
    for (byte, value) in bytes.iter_mut().skip(at).zip(values) {
        *byte = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read32(space: &ConfigSpace, at: u64) -> u32 {
        let mut data = [0; 4];
        space.read(at, &mut data);
        u32::from_le_bytes(data)
    }

    fn write32(space: &mut ConfigSpace, at: u64, value: u32) -> bool {
        space.write(at, &value.to_le_bytes())
    }

    fn with_serial() -> ConfigSpace {
        let serial = Some(0x48b0_2dff_fe00_0001);
        ConfigSpace::new(&Settings { serial, ..Settings::default() })
    }

    #[test]
    fn header_says_what_the_settings_say() {
        let space = with_serial();
        assert_eq!(read32(&space, 0x00), 0x20b0_10de);
        assert_eq!(read32(&space, 0x08), 0x0302_00a1);
        assert_eq!(read32(&space, 0x2c), 0x144e_10de);
    }

    #[test]
    fn capabilities_form_a_list() {
        let space = with_serial();
        let mut ids = Vec::new();
        let mut at = read32(&space, 0x34) & 0xff;
        while at != 0 {
            let head = read32(&space, u64::from(at));
            ids.push(head & 0xff);
            at = head >> 8 & 0xff;
        }
        assert_eq!(ids, [0x01, 0x05, 0x10]);
        assert_ne!(read32(&space, 0x7c) & 1 << 28, 0, "FLR is announced");
        assert_ne!(read32(&space, 0x64) & 1 << 3, 0, "no soft reset");
    }

    #[test]
    fn serial_number_is_there_only_if_set() {
        let space = with_serial();
        assert_eq!(read32(&space, 0x100), 0x0001_0003);
        assert_eq!(read32(&space, 0x104), 0xfe00_0001);
        assert_eq!(read32(&space, 0x108), 0x48b0_2dff);
        assert_eq!(read32(&ConfigSpace::new(&Settings::default()), 0x100), 0);
    }

    #[test]
    fn bars_answer_sizing() {
        let huge = Bar { index: 4, size: 16 << 30, prefetchable: true, is_64bit: true, memory: 0 };
        let mut settings = Settings::default();
        settings.bars = vec![settings.bars[0].clone(), settings.bars[1].clone(), huge];
        let mut space = ConfigSpace::new(&settings);
        for at in (0x10..0x28).step_by(4) {
            assert!(!write32(&mut space, at, !0));
        }
        assert_eq!(read32(&space, 0x10), 0xff00_0000, "16M, 32-bit");
        assert_eq!(read32(&space, 0x14), 0xf000_000c, "256M, 64-bit, prefetchable");
        assert_eq!(read32(&space, 0x18), 0xffff_ffff);
        assert_eq!(read32(&space, 0x1c), 0, "not implemented");
        assert_eq!(read32(&space, 0x20), 0x0000_000c);
        assert_eq!(read32(&space, 0x24), 0xffff_fffc, "16G");
    }

    #[test]
    fn writes_change_only_what_software_owns() {
        let mut space = with_serial();
        let before = space.clone();
        for at in (0..4096).step_by(4) {
            let _ = write32(&mut space, at, !0);
        }
        for at in [0x00, 0x08, 0x2c, 0x34, 0x60, 0x7c, 0x84, 0x100, 0x104, 0x108] {
            assert_eq!(read32(&space, at), read32(&before, at), "{at:#x}");
        }
        assert!(space.memory_enabled() && space.msi_enabled());
        assert_eq!(read32(&space, 0x04), 0x0010_0546);
    }

    #[test]
    fn flr_is_requested_by_one_bit_that_reads_zero() {
        let mut space = with_serial();
        assert!(!space.write(0x80, &[0xff, 0x7f]));
        assert!(space.write(0x80, &[0x00, 0x80]));
        assert!(space.write(0x81, &[0x80]));
        assert!(!space.write(0x82, &[0x00, 0x80]));
        assert_eq!(read32(&space, 0x80) & 0x8000, 0);
    }

    #[test]
    fn reset_takes_back_all_but_the_link() {
        let mut space = with_serial();
        let fresh = space.clone();
        for at in (0..4096).step_by(4) {
            let _ = write32(&mut space, at, !0);
        }
        space.reset();
        assert!(!space.memory_enabled() && !space.msi_enabled());
        for at in (0..4096).step_by(4).filter(|at| *at != 0x88) {
            assert_eq!(read32(&space, at), read32(&fresh, at), "{at:#x}");
        }
        assert_eq!(read32(&space, 0x88), 0x0104_00c3);
    }

    #[test]
    fn nothing_lies_behind_the_end() {
        let mut space = with_serial();
        for at in [4094, 4096, u64::MAX - 1, u64::MAX, 1 << 63] {
            let mut data = [0; 8];
            space.read(at, &mut data);
            assert_eq!(data[2..], [0xff; 6], "{at:#x}");
            assert!(!space.write(at, &[0xff; 8]), "{at:#x}");
        }
        let mut whole = vec![0; 1 << 16];
        space.read(0, &mut whole);
        assert!(!space.write(0xfff, &whole));
    }
}
