//! Devices of a running machine: the limits of its process, and its VMM.

use std::io;
use std::time::{Duration, Instant};

use model::{GuestSlot, LaunchError, Launcher, Plug, PluggedFunction, Presence, Unplugged};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use uuid::Uuid;

use super::control::{Control, ControlError};
use super::log::printable;
use super::start::{memlock, patience};
use super::vmm::Vmm;
use super::{ANSWER, ProcessLauncher, deadline, does_not_run};

impl<V: Vmm> ProcessLauncher<V> {
    /// A port of a running machine.
    pub(super) fn find_port(
        &self,
        id: Uuid,
        slot: &GuestSlot,
        taken: &[u32],
    ) -> Result<u32, LaunchError> {
        let root = &self.config.root;
        self.ask(id, "say which ports are free", ANSWER, |control, until| {
            self.vmm.free_port(slot, taken, root, control, until)
        })?
    }

    /// Raises the limit of locked memory, which VFIO accounts the guest's memory to, as a start does; then plugs.
    pub(super) fn plug_in(&self, plug: &Plug) -> Result<(), LaunchError> {
        let Presence::Running(handle) = self.find(plug.id) else { return Err(does_not_run()) };
        if let Some((pid, limit)) = handle.pid().zip(memlock(plug.memory, plug.functions)) {
            let raised = self.proc.memlock(pid).and_then(|old| raise_memlock(pid, old, limit));
            raised.map_err(|error| LaunchError::Plug {
                reason: format!(
                    "cannot raise the limit of locked memory of process {pid}: {error}"
                ),
            })?;
        }
        let paths = self.paths(plug.id);
        let patience = patience(plug.memory, plug.slot.functions.len(), false);
        let control = Control::running(self.run_dir(plug.id).control());
        let until = Instant::now() + patience;
        self.vmm.plug(plug, &paths, &control, until).map_err(|error| match error {
            ControlError::Deadline(_) => deadline("take the device", patience),
            ControlError::Refused(_, reason) => LaunchError::Plug { reason: printable(&reason) },
            error => {
                let error = LaunchError::Monitor { reason: printable(&error.to_string()) };
                self.gone_or(plug.id, error)
            }
        })
    }

    /// Asks the guest to let go of a device.
    pub(super) fn take_out(
        &self,
        id: Uuid,
        slot: &GuestSlot,
        patience: Duration,
    ) -> Result<Unplugged, LaunchError> {
        self.ask(id, "let go of the device", patience, |control, until| {
            self.vmm.unplug(slot, control, until)
        })
    }

    /// The functions that a running machine has.
    pub(super) fn list_plugged(
        &self,
        id: Uuid,
    ) -> Result<Option<Vec<PluggedFunction>>, LaunchError> {
        self.ask(id, "say which devices it has", ANSWER, |control, until| {
            self.vmm.plugged(control, until)
        })
    }
}

/// Raises the limit of locked memory of a process, unless it is high enough. `old` is its soft and hard limit; `None` is no
/// limit.
fn raise_memlock(pid: u32, (soft, hard): (Option<u64>, Option<u64>), least: u64) -> io::Result<()> {
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= least);
    if is_enough(soft) {
        return Ok(());
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let maximum = if is_enough(hard) { hard } else { Some(least) };
    prlimit(Some(pid), Resource::Memlock, Rlimit { current: Some(least), maximum })?;
    Ok(())
}
