//! The host's clocks.

use std::time::Duration;

/// What the host's clocks show at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970 by the clock of the day (`CLOCK_REALTIME`). It can be wrong and can jump.
    pub unix: u64,
    /// Since the boot, sleep included (`CLOCK_BOOTTIME`). It never jumps.
    pub uptime: Duration,
}
