//! Who reads detail: this process, or workers with a deadline.

use std::path::Path;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use model::{Address, Detail, Inventory, Lock};

use crate::detail::{Question, Reading, asleep, read};
use crate::device_lock::Locks;
use crate::inventory::Catalogs;
use crate::parallel;
use crate::root::Root;
use crate::worker_pool::{Answer, Failure, Job, Request, WorkerPool};

/// How long the detail of a function may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many functions a worker reads at once: so many that asking costs little beside reading, and so few that the
/// answer has room in a message.
const BATCH: usize = 8;

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub enum Reader<'a> {
    /// This process, without a deadline: files that are not the kernel's cannot hang.
    Here(&'a Root),
    /// Workers.
    Workers {
        /// These.
        pool: &'a WorkerPool,
        /// The host's root.
        root: &'a Path,
        /// What tells that a change is being made on a function, where changes are made.
        locks: Option<&'a Locks>,
    },
}

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What a device can be divided into: it is asked of its driver.
    Partitions,
    /// All there is to know. Configuration space is a thousand reads on the bus, of 4 bytes each.
    All,
}

/// Adds detail to functions of a listing.
pub fn complete(
    inventory: &mut Inventory,
    wanted: &[Address],
    depth: Depth,
    reader: Reader<'_>,
    root: &Root,
    catalogs: &Catalogs,
) {
    let mut questions = Vec::new();
    for address in wanted {
        let Some(function) = inventory.functions.get_mut(address) else { continue };
        if reader.is_changing(*address) {
            function.notes.push("a change is being made on it: its detail was not read".into());
            continue;
        }
        let asleep = asleep(function);
        let configuration = depth == Depth::All && asleep.is_none();
        questions.push(Question { address: *address, configuration });
        function.notes.extend(asleep);
    }
    let readings = reader.ask(&questions);
    for Reading { address, detail, notes } in readings {
        let Some(function) = inventory.functions.get_mut(&address) else { continue };
        function.detail = Some(Box::new(detail));
        function.notes.extend(notes);
        // A virtual function can always reset itself: the specification asks for it, and the kernel relies on it
        // (PCI Express Base Specification, 9.2.2.2).
        if let Some(detail) = function.detail.as_mut()
            && function.physical_function.is_some()
        {
            detail.flr = detail.flr.map(|_| true);
        }
    }
    if depth == Depth::All {
        name_candidates(inventory, wanted, root, catalogs);
    }
}

fn name_candidates(
    inventory: &mut Inventory,
    wanted: &[Address],
    root: &Root,
    catalogs: &Catalogs,
) {
    let mut modules = catalogs.modules.lock().unwrap_or_else(PoisonError::into_inner);
    modules.refresh(root);
    let functions = wanted.iter().filter_map(|address| inventory.functions.get(address));
    let candidates = modules.candidates(root, functions);
    for address in wanted {
        let Some(function) = inventory.functions.get_mut(address) else { continue };
        let drivers = candidates.get(&crate::inventory::Modalias::of(function));
        if let (Some(detail), Some(drivers)) = (&mut function.detail, drivers) {
            detail.candidate_drivers.clone_from(drivers);
        }
    }
}

impl Reader<'_> {
    fn is_changing(&self, address: Address) -> bool {
        let Self::Workers { locks: Some(locks), .. } = self else { return false };
        locks.is_held(&Lock::Function(address)).unwrap_or(false)
    }

    fn ask(&self, questions: &[Question]) -> Vec<Reading> {
        match self {
            Self::Here(root) => parallel::map(questions, |question| read(root, *question)),
            Self::Workers { .. } => {
                let batches: Vec<&[Question]> = questions.chunks(BATCH).collect();
                parallel::map(&batches, |batch| self.batch(batch)).into_iter().flatten().collect()
            }
        }
    }

    /// Has a worker read some functions; where it does not answer in time, each is asked for alone, so that only the
    /// one that hangs is not told.
    fn batch(&self, questions: &[Question]) -> Vec<Reading> {
        match (self.call(questions), questions) {
            (Ok(readings), _) => readings,
            (Err(reason), [alone]) => vec![unread(*alone, reason)],
            (Err(_), several) => thread::scope(|scope| {
                let alone =
                    |question| scope.spawn(move || self.batch(std::slice::from_ref(question)));
                let asked: Vec<_> = several.iter().map(alone).collect();
                asked.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
            }),
        }
    }

    fn call(&self, questions: &[Question]) -> Result<Vec<Reading>, String> {
        let Self::Workers { pool, root, locks } = self else { return Ok(Vec::new()) };
        let locks = locks.map(|locks| locks.dir().to_owned()).unwrap_or_default();
        let job = Job::ReadDetail(questions.to_vec());
        let request = Request { root: (*root).to_owned(), locks, job };
        match pool.call(&request, None, PATIENCE) {
            Ok(Ok(Answer::Detail(readings))) => Ok(readings),
            Ok(Ok(other)) => {
                Err(format!("its detail could not be read: a worker answered {other:?}"))
            }
            Ok(Err(error)) => Err(format!("its detail could not be read: {error}")),
            Err(Failure::Deadline { .. }) => Err(format!(
                "its detail could not be read within {} s: its driver holds it",
                PATIENCE.as_secs()
            )),
            Err(Failure::Died(reason)) => Err(format!("its detail could not be read: {reason}")),
        }
    }
}

fn unread(question: Question, reason: String) -> Reading {
    Reading { address: question.address, detail: Detail::default(), notes: vec![reason] }
}
