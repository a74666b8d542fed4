//! Which users of a device can be asked to end: a process, if the claim allows that, and NVIDIA's persistence daemon, which
//! keeps GPUs initialized for no one.

use model::Holder;

/// The program that keeps NVIDIA GPUs initialized.
const PERSISTENCE_DAEMON: &str = "nvidia-persistenced";

/// A process's name is cut to 15 bytes in `/proc/PID/comm` (`TASK_COMM_LEN`).
const COMM_LENGTH: usize = 15;

/// Whether a user of a device would be asked to end.
pub fn would_go(holder: &Holder, evict: bool) -> bool {
    is_persistence_daemon(holder) || (evict && can_be_asked(holder))
}

pub fn is_persistence_daemon(holder: &Holder) -> bool {
    let cut = PERSISTENCE_DAEMON.get(..COMM_LENGTH);
    let program = holder.program.as_deref();
    program.is_some() && (program == Some(PERSISTENCE_DAEMON) || program == cut)
}

/// Only a process can be asked; a mount, a route or an array is ended by a person. A VMM is not asked: its machine would end.
fn can_be_asked(holder: &Holder) -> bool {
    holder.pid.is_some() && holder.started.is_some() && !holder.by.starts_with("/dev/vfio/")
}
