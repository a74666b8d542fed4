//! Stopping a machine: first asks the guest, then the VMM, then kills the process.

use std::thread;
use std::time::{Duration, Instant};

use model::{Execution, Exit, LaunchError, MachineHandle, ShutDown};
use uuid::Uuid;

use super::control::{Control, ControlError};
use super::run_dir::forget;
use super::vmm::Vmm;
use super::watch::Watch;
use super::{ProcessLauncher, deadline, watching};

/// The pause before the power button is pressed again, doubled each time: a guest that is booting misses a press.
const PRESS_AGAIN: Duration = Duration::from_secs(3);

/// How long a VMM may take to exit after it was asked to.
const QUIT: Duration = Duration::from_secs(10);

/// How long a killed VMM may take to exit: the kernel closes and resets devices and unpins the guest's memory.
const DIE: Duration = Duration::from_secs(120);

/// How long one command to the VMM may take.
const COMMAND: Duration = Duration::from_secs(10);

impl<V: Vmm> ProcessLauncher<V> {
    /// Asks the guest to shut down, and ends the VMM after `grace`.
    pub(super) fn stop(&self, watch: &Watch, grace: Duration) -> Result<ShutDown, LaunchError> {
        let id = watch.handle().id;
        let control = Control::running(self.run_dir(id).control());
        let ask = |command: &str, asked: Result<(), ControlError>| {
            if let Err(error) = &asked {
                tracing::debug!(machine = %id, command, %error, "the VMM did not accept a command");
            }
            // A VMM that is exiting does not always answer.
            asked.is_ok()
        };
        let until = Instant::now() + grace;
        let mut pause = PRESS_AGAIN;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let pressed = self.press(&control, Instant::now() + COMMAND);
            let heard = ask("power button", pressed);
            let patience = left.min(if heard { pause } else { COMMAND });
            if let Some(exit) = watch.wait(Some(patience)).map_err(watching)? {
                return self.settle(watch.handle()).map(|()| ShutDown { exit, by_guest: true });
            }
            if !heard {
                break;
            }
            pause *= 2;
        }
        let heard = ask("quit", self.vmm.quit(&control, Instant::now() + COMMAND));
        let patience = if heard { QUIT } else { QUIT.min(COMMAND) };
        if let Some(exit) = watch.wait(Some(patience)).map_err(watching)? {
            return self.settle(watch.handle()).map(|()| ShutDown { exit, by_guest: false });
        }
        self.end(watch).map(|exit| ShutDown { exit, by_guest: false })
    }

    /// Presses the power button. A paused guest is resumed before, because it would not notice; one that cannot continue
    /// will not notice either.
    fn press(&self, control: &Control<'_>, deadline: Instant) -> Result<(), ControlError> {
        match self.vmm.resume(control, deadline) {
            Err(error @ (ControlError::Deadline(_) | ControlError::Closed)) => return Err(error),
            Ok(Execution::Halted(halt)) if !halt.can_continue() => {
                return Err(ControlError::Refused("power button".into(), halt.to_string()));
            }
            // The guest may notice it nevertheless.
            Ok(_) | Err(_) => {}
        }
        self.vmm.press_power_button(control, deadline)
    }

    /// Kills a VMM and waits until it has exited.
    pub(super) fn end(&self, watch: &Watch) -> Result<Exit, LaunchError> {
        watch.kill().map_err(watching)?;
        match watch.wait(Some(DIE)).map_err(watching)? {
            Some(exit) => self.settle(watch.handle()).map(|()| exit),
            None => Err(deadline("exit", DIE)),
        }
    }

    /// Cleans up after a machine that ended while no daemon was running.
    pub(super) fn clean(&self, id: Uuid) -> Result<(), LaunchError> {
        match self.run_dir(id).record().map_err(watching)? {
            Some(record) => self.settle(&record.handle),
            None => Ok(()),
        }
    }

    /// Cleans up after a VMM's process has exited: checks that its lock is free, and removes its record and cgroup.
    /// Does nothing if the machine was started again meanwhile.
    pub(super) fn settle(&self, handle: &MachineHandle) -> Result<(), LaunchError> {
        let run = self.run_dir(handle.id);
        let until = Instant::now() + QUIT;
        loop {
            let record = run.record().map_err(watching)?;
            let Some(record) = record.filter(|record| record.handle == *handle) else {
                return Ok(());
            };
            if let Some(_lock) = run.take().map_err(watching)? {
                return forget(&run, Some(&record), &self.config).map_err(watching);
            }
            if Instant::now() > until {
                return Err(deadline("release its lock", QUIT));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
