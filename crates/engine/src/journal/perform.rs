//! Performing one step: record its intent, change the host, record the outcome. A success is recorded in the same write
//! as what follows: the next step's intent, or the operation's end. Until then recovery finds the intent, which it
//! undoes like a step that was performed.

use model::{HostError, LaunchError, Observed, Refusal, Step};
use uuid::Uuid;

use super::Journal;
use crate::refusals;
use crate::store::{Durability, OpenOperation, PerformedStep};
use crate::{Action, JournalEvent, MachineStep, StepState};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The host failed.
    #[error("{0}")]
    Host(#[from] HostError),
    /// The launcher failed.
    #[error("{0}")]
    Launch(#[from] LaunchError),
    /// Another tool changed the device since it was last read.
    #[error("cannot {step}: modified by another tool meanwhile: {found}")]
    Foreign {
        /// The step's description.
        step: String,
        /// The value that the host shows.
        found: String,
    },
    /// The journal could not be written.
    #[error("{0}")]
    Store(#[from] Refusal),
}

/// A step to perform and record.
struct Entry {
    claim: Option<Uuid>,
    action: Action,
    mode: StepMode,
}

/// Why a step is performed, which decides whether it may be performed without a record.
#[derive(Clone, Copy)]
enum StepMode {
    /// A step of a plan. It needs a record: only recorded steps are undone.
    Forward,
    /// Undoes recorded steps, so it needs no record: recovery repeats it until its operation ends.
    Restore,
    /// Undoes changes that are not recorded. It needs a record of its own.
    RestoreUnrecorded,
    /// Idempotent, so it needs no record: recovery repeats it until its operation ends.
    Idempotent,
}

impl StepMode {
    const fn is_restoring(self) -> bool {
        matches!(self, Self::Restore | Self::RestoreUnrecorded)
    }

    const fn needs_no_record(self) -> bool {
        matches!(self, Self::Restore | Self::Idempotent)
    }
}

/// Whether a step is recorded and performed although the host is already in its end state. This holds for power
/// control, because drivers bound later change it, and for steps that only keep a value, because the rollback must know
/// of them.
fn is_recorded_if_done(step: &Step) -> bool {
    let facts = step.facts();
    facts.set_by_drivers || (facts.recorded_unchanged && step.changes_nothing())
}

/// Kernel state needs to survive a process crash only; files must be synced.
const fn intended(action: &Action) -> Durability {
    match action {
        Action::Device(step) if step.outlasts_the_boot() => Durability::Power,
        Action::Device(_) | Action::Machine(_) => Durability::Process,
    }
}

impl From<StepError> for Refusal {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Host(error) => refusals::step_failed(&error),
            StepError::Launch(error) => refusals::launch_failed(&error),
            StepError::Store(refusal) => refusal,
            StepError::Foreign { .. } => Self::new(
                model::Code::StepFailed,
                error.to_string(),
                "find the other tool that manages the device (driverctl, libvirt, udev rules), then retry",
            ),
        }
    }
}

impl Journal {
    /// Performs a step on a device; skips it if the host is already in its end state. A skipped step is not undone.
    pub fn perform(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        step: &Step,
    ) -> Result<(), StepError> {
        let subject = operation.subject;
        let action = Action::Device(step.clone());
        match self.host.observe(step)? {
            Observed::After if !is_recorded_if_done(step) => {
                self.write_for(operation, Durability::Process, |tx| {
                    operation.add_step(
                        tx,
                        Some(claim),
                        &action,
                        false,
                        StepState::Skipped,
                        &self.boot,
                    )
                })?;
                self.reached(&JournalEvent::Recorded { subject, action });
                return Ok(());
            }
            Observed::Other(found) if !step.facts().set_by_drivers => {
                return Err(StepError::Foreign { step: step.describe(), found });
            }
            _ => {}
        }
        let entry = Entry { claim: Some(claim), action, mode: StepMode::Forward };
        self.journaled(operation, entry, || Ok(self.host.perform(step)?))
    }

    /// Performs a restoring step that is known to be needed, even if the journal cannot be written.
    pub fn restore(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        step: &Step,
    ) -> Result<(), StepError> {
        let action = Action::Device(step.clone());
        let entry = Entry { claim: Some(claim), action, mode: StepMode::Restore };
        self.journaled(operation, entry, || Ok(self.host.perform(step)?))
    }

    /// The same for the first step on a function that is not in the journal yet: the journal must be writable.
    pub fn restore_unrecorded(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        step: &Step,
    ) -> Result<(), StepError> {
        let action = Action::Device(step.clone());
        let entry = Entry { claim: Some(claim), action, mode: StepMode::RestoreUnrecorded };
        self.journaled(operation, entry, || Ok(self.host.perform(step)?))
    }

    /// Performs a step of a machine by calling `perform`.
    pub fn machine<T>(
        &self,
        operation: &OpenOperation,
        step: MachineStep,
        perform: impl FnOnce() -> Result<T, LaunchError>,
    ) -> Result<T, StepError> {
        let mode = match step {
            MachineStep::CreateFiles
            | MachineStep::Launch
            | MachineStep::Plug { .. }
            | MachineStep::PlugPart { .. } => StepMode::Forward,
            MachineStep::End
            | MachineStep::RemoveFiles
            | MachineStep::Unplug { .. }
            | MachineStep::UnplugPart { .. } => StepMode::Idempotent,
        };
        let entry = Entry { claim: None, action: Action::Machine(step), mode };
        self.journaled(operation, entry, || Ok(perform()?))
    }

    fn journaled<T>(
        &self,
        operation: &OpenOperation,
        entry: Entry,
        perform: impl FnOnce() -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let Entry { claim, action, mode } = entry;
        let subject = operation.subject;
        let intent = self.write_for(operation, intended(&action), |tx| {
            operation.add_step(
                tx,
                claim,
                &action,
                mode.is_restoring(),
                StepState::Intended,
                &self.boot,
            )
        });
        let seq = match intent {
            Ok(seq) => Some(seq),
            Err(error) if mode.needs_no_record() => {
                tracing::warn!(
                    "performing a step although its intent could not be recorded: {action:?}: {error}"
                );
                None
            }
            Err(error) => return Err(error.into()),
        };
        self.reached(&JournalEvent::Intended { subject, action: action.clone() });
        let result = perform();
        if result.is_ok() {
            self.reached(&JournalEvent::Performed { subject, action: action.clone() });
        }
        let Some(seq) = seq else { return result };
        match &result {
            Ok(_) => operation.record_later(PerformedStep { seq, action }),
            Err(error) => {
                // The step's own error is more useful than one of the journal.
                let _ = self.write_for(operation, Durability::Process, |tx| {
                    operation.fail_step(tx, seq, &error.to_string())
                });
                self.reached(&JournalEvent::Recorded { subject, action });
            }
        }
        result
    }
}
