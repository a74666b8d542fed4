//! The host's clocks.

use std::time::Duration;

/// What the host's clocks show at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970 by the wall clock (`CLOCK_REALTIME`), which can be wrong and can jump.
    pub unix: u64,
    /// Time since boot, including suspend (`CLOCK_BOOTTIME`). It never jumps.
    pub uptime: Duration,
}
