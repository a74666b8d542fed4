//! Pausing and resuming instances, and guests that their VMM has stopped without a request.
//!
//! Neither verb is an operation of the journal: the VMM itself knows what its guest does, and each daemon asks it when it
//! finds the machine.

use std::sync::Arc;

use model::{Code, Execution, Halt, LaunchError, Launcher, Refusal};
use uuid::Uuid;

use super::{Instances, wrong_state};
use crate::store::StoredInstance;
use crate::{Instance, InstanceState};

impl Instances {
    /// Pauses the guest of an instance that runs: its processors stop, and it keeps its memory and devices. Idempotent.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it does not run, or its VMM has stopped the guest; `step_failed` if the VMM does not
    /// do it.
    pub fn pause(&self, key: &str) -> Result<Instance, Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        let (row, launcher) = self.running(id, "paused")?;
        let name = row.instance.name.clone();
        let was_running = row.instance.state == InstanceState::Running;
        match launcher.pause(id).map_err(|error| not_done("pause", &name, &error.to_string()))? {
            Execution::Paused => {}
            Execution::Running => return Err(not_done("pause", &name, "its guest still runs")),
            Execution::Halted(halt) => return Err(self.is_halted(&row.instance, "paused", &halt)),
        }
        let recorded = self.record_execution(row, InstanceState::Paused);
        if recorded.is_err()
            && was_running
            && let Err(error) = launcher.resume(id)
        {
            tracing::warn!(machine = %id, %error, "the guest is paused, and that cannot be recorded");
        }
        recorded
    }

    /// Lets the guest of a paused instance continue, also one that the VMM has stopped. Idempotent.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it does not run, or its guest cannot continue; `insufficient_resources` if the host
    /// still has no space for its disk; `step_failed` if the VMM does not do it.
    pub fn resume(&self, key: &str) -> Result<Instance, Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        let (row, launcher) = self.running(id, "resumed")?;
        let name = row.instance.name.clone();
        let execution = launcher.resume(id);
        match execution.map_err(|error| not_done("resume", &name, &error.to_string()))? {
            Execution::Running => {
                let instance = self.record_execution(row, InstanceState::Running)?;
                self.set_guest_clock(&instance);
                Ok(instance)
            }
            Execution::Paused => Err(not_done("resume", &name, "its guest is still paused")),
            Execution::Halted(halt) => {
                // It is no longer paused on request.
                let instance = self.record_execution(row, InstanceState::Running)?;
                Err(self.is_halted(&instance, "resumed", &halt))
            }
        }
    }

    /// What is wrong with the guest of an instance that runs, in words, and what to do: its VMM has stopped it, or does not
    /// tell what it does. Asks the VMM.
    #[must_use]
    pub fn halted(&self, instance: &Instance) -> Option<String> {
        self.halted_or_silent(instance).0
    }

    /// The same, and whether its VMM is silent: another question would only cost time.
    #[must_use]
    pub fn halted_or_silent(&self, instance: &Instance) -> (Option<String>, bool) {
        let launcher = self.launcher(&instance.hypervisor).ok().filter(|_| runs(instance));
        let Some(launcher) = launcher else { return (None, false) };
        let execution = launcher.execution(instance.id);
        let is_silent = matches!(execution, Err(LaunchError::Deadline { .. }));
        (self.halted_by(instance, execution), is_silent)
    }

    fn halted_by(
        &self,
        instance: &Instance,
        execution: Result<Execution, LaunchError>,
    ) -> Option<String> {
        let name = &instance.name;
        match execution {
            Ok(Execution::Halted(halt)) => {
                Some(format!("{halt}; {}", self.remedy(instance, &halt)))
            }
            // What a person has done meanwhile is not recorded yet.
            Ok(Execution::Paused) if instance.state == InstanceState::Running => {
                Some(format!("the guest is paused; `handover instance resume {name}` continues it"))
            }
            Ok(_) => None,
            Err(error @ LaunchError::Deadline { .. }) => {
                Some(format!("{error}; `handover instance stop {name}` ends it"))
            }
            Err(error) => {
                tracing::debug!(machine = %instance.id, %error, "unknown whether the guest runs");
                None
            }
        }
    }

    /// The state of an instance whose machine runs, as its VMM says. If it does not say, the recorded one.
    pub(super) fn state_of_running(&self, row: &StoredInstance) -> InstanceState {
        let id = row.instance.id;
        let launcher = self.launcher(&row.instance.hypervisor);
        match launcher.map(|launcher| launcher.execution(id)) {
            Ok(Ok(Execution::Paused)) => InstanceState::Paused,
            Ok(Ok(Execution::Running | Execution::Halted(_))) => InstanceState::Running,
            Ok(Err(error)) => {
                tracing::warn!(machine = %id, %error, "unknown whether its guest is paused");
                row.instance.state.running_or_paused()
            }
            Err(_) => row.instance.state.running_or_paused(),
        }
    }

    /// An instance that runs, and its launcher.
    fn running(
        &self,
        id: Uuid,
        verb: &str,
    ) -> Result<(StoredInstance, Arc<dyn Launcher>), Refusal> {
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        if !runs(&row.instance) {
            let start = format!("`handover instance start {}` starts it", row.instance.name);
            return Err(wrong_state(&row, verb, start));
        }
        let launcher = self.launcher(&row.instance.hypervisor)?.clone();
        Ok((row, launcher))
    }

    fn record_execution(
        &self,
        mut row: StoredInstance,
        state: InstanceState,
    ) -> Result<Instance, Refusal> {
        if row.instance.state != state {
            row.instance.state = state;
            self.save(&row)?;
        }
        Ok(row.instance)
    }

    fn is_halted(&self, instance: &Instance, verb: &str, halt: &Halt) -> Refusal {
        let code = match halt {
            Halt::DiskFull => Code::InsufficientResources,
            _ => Code::InvalidState,
        };
        let message = format!("{:?} cannot be {verb}: {halt}", instance.name);
        Refusal::new(code, message, self.remedy(instance, halt))
    }

    fn remedy(&self, instance: &Instance, halt: &Halt) -> String {
        let name = &instance.name;
        let dir = self.config.state_dir.display();
        match halt {
            Halt::DiskFull => {
                format!("free space (`df {dir}`), then `handover instance resume {name}`")
            }
            Halt::DiskFailed => format!(
                "see `dmesg` and repair the host's disk, then `handover instance resume {name}`"
            ),
            Halt::Asleep => format!("`handover instance resume {name}` wakes it"),
            Halt::Other(_) => format!("`handover instance resume {name}` continues it"),
            Halt::InternalError | Halt::Crashed | Halt::ShutDown => {
                format!("`handover instance restart {name}` starts it anew")
            }
        }
    }
}

impl InstanceState {
    /// The state of an instance that was recorded so, and whose machine runs.
    const fn running_or_paused(self) -> Self {
        match self {
            Self::Paused => Self::Paused,
            _ => Self::Running,
        }
    }
}

/// Whether an instance has a running machine, as it is recorded.
pub(super) const fn runs(instance: &Instance) -> bool {
    matches!(instance.state, InstanceState::Running | InstanceState::Paused)
}

/// The refusal for a VMM that did not do what it was asked.
fn not_done(verb: &str, name: &str, why: &str) -> Refusal {
    Refusal::new(
        Code::StepFailed,
        format!("cannot {verb} {name:?}: {why}"),
        format!(
            "`handover instance show {name}` tells what it does; `handover instance stop {name}` ends it"
        ),
    )
}
