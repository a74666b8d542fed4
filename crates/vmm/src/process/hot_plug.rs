//! Devices of a running machine: the limits of its process, and its VMM.

use std::io;
use std::time::{Duration, Instant};

use model::{
    DeviceAccess, GuestSlot, LaunchError, Launcher, Plug, PluggedFunction, Presence, Unplugged,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use uuid::Uuid;

use super::control::{Control, ControlError};
use super::log::printable;
use super::start::{memlock, patience};
use super::vmm::Vmm;
use super::{ANSWER, ProcessLauncher, deadline, device_files, does_not_run};
use crate::bars;

impl<V: Vmm> ProcessLauncher<V> {
    /// How a machine's VMM would open these devices.
    pub(super) fn choose_access(&self, slots: &[GuestSlot], running: Option<Uuid>) -> DeviceAccess {
        let has_nodes = device_files::of_machine(&self.config.root, slots).is_ok();
        let takes = || match running {
            None => self.vmm.takes_descriptors(),
            Some(id) => {
                let asked = self.ask(id, "say what it can do", ANSWER, |control, until| {
                    self.vmm.takes_descriptors_now(control, until)
                });
                asked.is_ok_and(|takes| takes)
            }
        };
        if has_nodes && takes() { DeviceAccess::Descriptors } else { DeviceAccess::Groups }
    }

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
        let slots = || plug.others.iter().chain([&plug.slot]);
        let functions = slots().map(|slot| slot.functions.len()).sum();
        let limit = memlock(plug.memory, functions, bars::memory(&self.config.root, slots()));
        if let Some((pid, limit)) = handle.pid().zip(limit) {
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
