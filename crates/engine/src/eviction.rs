//! Which users of a device can be evicted: processes, if the claim allows it, and always NVIDIA's persistence daemon,
//! which only keeps GPUs initialized.

use model::Holder;

/// The program that keeps NVIDIA GPUs initialized.
const PERSISTENCE_DAEMON: &str = "nvidia-persistenced";

/// `/proc/PID/comm` truncates names to 15 bytes (`TASK_COMM_LEN`).
const COMM_LENGTH: usize = 15;

/// Whether a request evicts the processes that use its devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// The request has no such option.
    #[default]
    Unavailable,
    /// The option is not set.
    Off,
    /// The option is set.
    On,
}

impl Eviction {
    /// The option of a request that has it.
    pub const fn option(set: bool) -> Self {
        if set { Self::On } else { Self::Off }
    }

    /// Whether setting the option would evict this user.
    pub fn would_evict(self, holder: &Holder) -> bool {
        self == Self::Off && can_ask_to_exit(holder)
    }
}

/// Whether a user of a device is evicted.
pub fn is_evictable(holder: &Holder, eviction: Eviction) -> bool {
    is_persistence_daemon(holder) || (eviction == Eviction::On && can_ask_to_exit(holder))
}

pub fn is_persistence_daemon(holder: &Holder) -> bool {
    let cut = PERSISTENCE_DAEMON.get(..COMM_LENGTH);
    let program = holder.program.as_deref();
    program.is_some() && (program == Some(PERSISTENCE_DAEMON) || program == cut)
}

/// Only processes can be asked to exit, not mounts, routes or arrays. VMMs are never asked: their machines would stop.
fn can_ask_to_exit(holder: &Holder) -> bool {
    holder.pid.is_some() && holder.started.is_some() && !holder.is_vmm()
}
