//! Where something is that a running machine is to lose.

use std::time::Duration;

/// How long a guest is waited for before it is looked whether there is still time.
pub(super) const SLICE: Duration = Duration::from_secs(1);

/// Where a device of a machine is.
pub(super) enum Whereabouts {
    /// No machine has it, and the kernel agrees.
    Out,
    /// The machine has it, for this reason.
    Kept(String),
    /// It is unknown whether the machine runs.
    Unknown(String),
}
