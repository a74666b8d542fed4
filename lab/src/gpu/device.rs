//! The whole function: configuration space, BARs, presence and interrupts, independent of the wire protocol.

use super::{
    bars::Bars, config_space::ConfigSpace, faults::Presence, interrupts::Interrupts,
    settings::Settings,
};
use std::time::Instant;

/// One emulated function.
#[derive(Debug)]
pub struct Device {
    config: ConfigSpace,
    bars: Bars,
    presence: Presence,
    has_doorbell: bool,
    used: bool,
    /// The targets of interrupts.
    pub interrupts: Interrupts,
}

impl Device {
    /// The state at power-on.
    pub fn new(settings: &Settings) -> Self {
        Self {
            config: ConfigSpace::new(settings),
            bars: Bars::new(settings),
            presence: Presence::new(settings),
            // HD audio has its global control register at the doorbell's offset: its driver must not ring.
            has_doorbell: settings.class >> 16 == 0x03,
            used: false,
            interrupts: Interrupts::default(),
        }
    }

    /// Reads configuration space at `now`.
    pub fn read_config(&self, offset: u64, data: &mut [u8], now: Instant) {
        if self.presence.answers(now) {
            self.config.read(offset, data);
        } else {
            data.fill(0xff);
        }
    }

    /// Writes configuration space at `now`; a write may reset the function.
    pub fn write_config(&mut self, offset: u64, data: &[u8], now: Instant) {
        if !self.presence.answers(now) {
            return;
        }
        if self.config.write(offset, data) {
            self.reset(now);
        }
        self.used |= self.config.memory_enabled();
    }

    /// Reads a BAR: all ones unless the function answers and its memory space is enabled.
    pub fn read_bar(&self, bar: u32, offset: u64, data: &mut [u8], now: Instant) {
        if self.presence.answers(now) && self.config.memory_enabled() {
            self.bars.read(bar, offset, data);
        } else {
            data.fill(0xff);
        }
    }

    /// Writes a BAR; a write to the doorbell raises an interrupt.
    pub fn write_bar(&mut self, bar: u32, offset: u64, data: &[u8], now: Instant) {
        if self.presence.answers(now)
            && self.config.memory_enabled()
            && self.bars.write(bar, offset, data)
            && self.has_doorbell
        {
            self.interrupts.raise(self.config.msi_enabled());
        }
    }

    /// A reset from outside of the function: power-on, or a reset of the bus above it. QEMU requests one before the
    /// emulated host's first instruction; that one is power-on, and starts no fault.
    pub fn reset_from_outside(&mut self, now: Instant) {
        if self.used {
            self.reset(now);
        }
    }

    fn reset(&mut self, now: Instant) {
        self.config.reset();
        self.bars.reset();
        self.presence.reset(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{
        bars::{ID, RESETS, SCRATCH},
        settings::Fault,
    };
    use std::time::Duration;

    const FLR: (u64, [u8; 2]) = (0x80, [0x00, 0x80]);

    struct Bench {
        device: Device,
        now: Instant,
    }

    impl Bench {
        fn new(fault: Fault) -> Self {
            let device = Device::new(&Settings { fault, ..Settings::default() });
            Self { device, now: Instant::now() }
        }

        fn enabled(fault: Fault) -> Self {
            let mut bench = Self::new(fault);
            bench.enable();
            bench
        }

        fn enable(&mut self) {
            self.device.write_config(0x04, &[0x06, 0x00], self.now);
        }

        fn flr(&mut self) {
            self.device.write_config(FLR.0, &FLR.1, self.now);
        }

        fn config(&self, at: u64) -> u32 {
            let mut data = [0; 4];
            self.device.read_config(at, &mut data, self.now);
            u32::from_le_bytes(data)
        }

        fn bar0(&self, at: u64) -> u32 {
            let mut data = [0; 4];
            self.device.read_bar(0, at, &mut data, self.now);
            u32::from_le_bytes(data)
        }
    }

    #[test]
    fn bars_answer_only_while_enabled() {
        let mut bench = Bench::new(Fault::None);
        assert_eq!(bench.bar0(ID), !0);
        bench.device.write_bar(0, SCRATCH, &[1], bench.now);
        bench.enable();
        assert_eq!(bench.bar0(ID), 0x1700_00a1);
        assert_eq!(bench.bar0(SCRATCH), 0, "a write while disabled is lost");
    }

    #[test]
    fn flr_clears_scratch_and_command() {
        let mut bench = Bench::enabled(Fault::None);
        bench.device.write_bar(0, SCRATCH, &[1, 2, 3, 4], bench.now);
        assert_eq!(bench.bar0(SCRATCH), 0x0403_0201);
        bench.flr();
        assert_eq!(bench.config(0x04) & 0xffff, 0);
        bench.enable();
        assert_eq!(bench.bar0(SCRATCH), 0);
        assert_eq!(bench.bar0(RESETS), 1);
    }

    #[test]
    fn power_on_is_no_reset_but_a_bus_reset_is() {
        let mut bench = Bench::new(Fault::DeadAfterReset);
        bench.device.reset_from_outside(bench.now);
        assert_eq!(bench.config(0), 0x20b0_10de);
        bench.enable();
        assert_eq!(bench.bar0(RESETS), 0);
        bench.device.reset_from_outside(bench.now);
        assert_eq!(bench.config(0), !0);
    }

    #[test]
    fn dead_after_reset_neither_reads_nor_writes() {
        let mut bench = Bench::enabled(Fault::DeadAfterReset);
        bench.flr();
        bench.now += Duration::from_secs(100);
        bench.enable();
        for at in [0x00, 0x04, 0x100, 0xffc, 0x1000] {
            assert_eq!(bench.config(at), !0);
        }
        assert_eq!(bench.bar0(ID), !0);
    }

    #[test]
    fn slow_reset_comes_back() {
        let mut bench = Bench::enabled(Fault::Slow { ms: 500 });
        bench.flr();
        assert_eq!(bench.config(0), !0);
        bench.now += Duration::from_millis(500);
        assert_eq!(bench.config(0), 0x20b0_10de);
        bench.enable();
        assert_eq!(bench.bar0(ID), 0x1700_00a1);
    }

    #[test]
    fn no_offset_makes_it_panic() {
        let mut bench = Bench::enabled(Fault::None);
        let data = vec![0x5a; 10_000];
        let mut back = vec![0; 10_000];
        for offset in [0, 1, 0xffc, 0xffff, 16 << 20, 1 << 40, u64::MAX - 5, u64::MAX] {
            for bar in [0, 1, 2, 5, 6, u32::MAX] {
                bench.device.read_bar(bar, offset, &mut back, bench.now);
                bench.device.write_bar(bar, offset, &data, bench.now);
            }
            bench.device.read_config(offset, &mut back, bench.now);
            bench.device.write_config(offset, &data, bench.now);
        }
    }
}
