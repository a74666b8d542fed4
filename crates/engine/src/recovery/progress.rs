//! What a recovery still has to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use model::Address;

use crate::OperationKind;
use crate::lock::lock;

/// A part of a recovery that has not ended yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryTask {
    /// The operation that is finished or rolled back.
    pub operation: OperationKind,
    /// What the operation changes: the owner of a claim, the name of an instance, or addresses.
    pub of: String,
    /// The functions that it touches.
    pub devices: Vec<Address>,
    /// The last step that did not succeed: the operation was interrupted in it, or it failed.
    pub step: Option<String>,
    /// How far it is.
    pub state: RecoveryTaskState,
    /// The functions on which a step of an earlier process is still running in the kernel.
    pub stuck: Vec<Address>,
}

/// How far a part of a recovery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryTaskState {
    /// It waits for parts that touch the same devices, or for a free thread.
    Queued,
    /// It is performed now.
    Running,
    /// It waits for a step that an earlier process left running in the kernel.
    Stuck,
}

impl RecoveryTask {
    /// The task in one sentence.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("{} of {}", self.operation, self.of);
        let devices = list(&self.devices);
        if !devices.is_empty() && devices != self.of {
            let _ = write!(text, " ({devices})");
        }
        text.push_str(": ");
        match self.state {
            RecoveryTaskState::Queued => text.push_str("queued"),
            RecoveryTaskState::Running => text.push_str("being recovered"),
            RecoveryTaskState::Stuck => {
                let stuck = list(&self.stuck);
                let _ = write!(text, "waits for a step on {stuck} that still runs in the kernel");
            }
        }
        if let Some(step) = &self.step {
            let _ = write!(text, "; its last step: {step}");
        }
        text
    }
}

/// The addresses, separated by commas.
pub fn list(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The unfinished parts of a recovery, in the order in which they were added.
#[derive(Default)]
pub struct Progress {
    tasks: Mutex<(u64, BTreeMap<u64, RecoveryTask>)>,
}

/// A task in the list, until dropped.
pub struct Listed<'a> {
    progress: &'a Progress,
    number: u64,
}

impl Progress {
    /// Adds a task to the list.
    pub fn add(&self, task: RecoveryTask) -> Listed<'_> {
        let mut tasks = lock(&self.tasks);
        tasks.0 += 1;
        let number = tasks.0;
        tasks.1.insert(number, task);
        Listed { progress: self, number }
    }

    /// The tasks. Those that run and touch one of the functions `stuck` wait for it.
    pub fn tasks(&self, stuck: &[Address]) -> Vec<RecoveryTask> {
        let mut tasks: Vec<RecoveryTask> = lock(&self.tasks).1.values().cloned().collect();
        for task in tasks.iter_mut().filter(|task| task.state == RecoveryTaskState::Running) {
            task.stuck = task.devices.iter().filter(|one| stuck.contains(one)).copied().collect();
            if !task.stuck.is_empty() {
                task.state = RecoveryTaskState::Stuck;
            }
        }
        tasks
    }
}

impl Listed<'_> {
    /// The task is performed now.
    pub fn begin(&self) {
        if let Some(task) = lock(&self.progress.tasks).1.get_mut(&self.number) {
            task.state = RecoveryTaskState::Running;
        }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        lock(&self.progress.tasks).1.remove(&self.number);
    }
}
