//! One step: its intent recorded, the host changed, the outcome recorded.

use model::{HostError, LaunchError, Observed, Refusal, Step};
use uuid::Uuid;

use super::Journal;
use crate::refusals;
use crate::store::{Durability, OpenOperation};
use crate::{Action, JournalEvent, MachineStep, StepState};

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The host's side failed.
    #[error("{0}")]
    Host(#[from] HostError),
    /// The launcher's side failed.
    #[error("{0}")]
    Launch(#[from] LaunchError),
    /// Somebody else changed the device since it was looked at.
    #[error("cannot {step}: something else changed it meanwhile, it shows {found}")]
    Foreign {
        /// The step in words.
        step: String,
        /// What the host shows.
        found: String,
    },
    /// The journal cannot be written.
    #[error("{0}")]
    Store(#[from] Refusal),
}

/// A step that is to be made and recorded.
struct Entry {
    claim: Option<Uuid>,
    action: Action,
    way: Way,
}

/// Whether a step may be made that is not recorded.
#[derive(Clone, Copy)]
enum Way {
    /// Of a plan: only what is recorded is undone.
    Forward,
    /// Restoring: the steps that it undoes are recorded, and are gone through again until its operation has ended.
    Back,
    /// Restoring what another left: only its own record tells of it.
    BackFromUnknown,
    /// Harmless when it is made again, as it is until its operation has ended.
    Again,
}

impl Way {
    const fn is_restoring(self) -> bool {
        matches!(self, Self::Back | Self::BackFromUnknown)
    }

    const fn needs_no_record(self) -> bool {
        matches!(self, Self::Back | Self::Again)
    }
}

/// Whether a step is recorded although the host shows it made already. Power that is as it shall be is: the drivers that
/// follow will change it. So is what only makes sure that something stays as it is, so that the way back knows of it.
fn is_recorded_when_made(step: &Step) -> bool {
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
                "see which other tool manages the device (driverctl, libvirt, udev rules), and try again",
            ),
        }
    }
}

impl Journal {
    /// Makes a device's step, unless it is made already. What was so before our intent was recorded is not ours to
    /// undo.
    pub fn make(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        step: &Step,
    ) -> Result<(), StepError> {
        let subject = operation.subject;
        let action = Action::Device(step.clone());
        match self.host.observe(step)? {
            Observed::After if !is_recorded_when_made(step) => {
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
        let entry = Entry { claim: Some(claim), action, way: Way::Forward };
        self.journaled(operation, entry, || Ok(self.host.perform(step)?))
    }

    /// Makes a restoring step that was found to be necessary, also where the journal cannot be written.
    pub fn restore(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        step: &Step,
    ) -> Result<(), StepError> {
        let action = Action::Device(step.clone());
        let entry = Entry { claim: Some(claim), action, way: Way::Back };
        self.journaled(operation, entry, || Ok(self.host.perform(step)?))
    }

    /// The same for the first step on a function of which the journal does not know yet.
    pub fn restore_unknown(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        step: &Step,
    ) -> Result<(), StepError> {
        let action = Action::Device(step.clone());
        let entry = Entry { claim: Some(claim), action, way: Way::BackFromUnknown };
        self.journaled(operation, entry, || Ok(self.host.perform(step)?))
    }

    /// Makes a machine's step.
    pub fn machine<T>(
        &self,
        operation: &OpenOperation,
        step: MachineStep,
        make: impl FnOnce() -> Result<T, LaunchError>,
    ) -> Result<T, StepError> {
        // An end and a removal are made again where it is not known whether they were.
        let way = match step {
            MachineStep::CreateFiles | MachineStep::Launch => Way::Forward,
            MachineStep::End | MachineStep::RemoveFiles => Way::Again,
        };
        let entry = Entry { claim: None, action: Action::Machine(step), way };
        self.journaled(operation, entry, || Ok(make()?))
    }

    fn journaled<T>(
        &self,
        operation: &OpenOperation,
        entry: Entry,
        make: impl FnOnce() -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let Entry { claim, action, way } = entry;
        let subject = operation.subject;
        let intent = self.write_for(operation, intended(&action), |tx| {
            operation.add_step(
                tx,
                claim,
                &action,
                way.is_restoring(),
                StepState::Intended,
                &self.boot,
            )
        });
        let seq = match intent {
            Ok(seq) => Some(seq),
            Err(error) if way.needs_no_record() => {
                tracing::warn!("made without a record of its intent: {action:?}: {error}");
                None
            }
            Err(error) => return Err(error.into()),
        };
        self.reached(&JournalEvent::Intended { subject, action: action.clone() });
        let result = make();
        let failure = result.as_ref().err().map(ToString::to_string);
        if failure.is_none() {
            self.reached(&JournalEvent::Performed { subject, action: action.clone() });
        }
        let state = if failure.is_none() { StepState::Done } else { StepState::Failed };
        let recorded = seq.map_or(Ok(()), |seq| {
            self.write_for(operation, Durability::Process, |tx| {
                operation.set_step(tx, seq, state, failure.as_deref())
            })
        });
        self.reached(&JournalEvent::Recorded { subject, action });
        match recorded {
            // The step's own failure tells more.
            Err(error) if result.is_ok() && !way.needs_no_record() => Err(error.into()),
            _ => result,
        }
    }
}
