//! Reading detail, in this process or in workers with a deadline.

use std::path::Path;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use model::{Address, Detail, Inventory, Lock};

pub use crate::detail::Depth;
use crate::detail::{DetailRequest, Reading, asleep, read};
use crate::device_lock::Locks;
use crate::inventory::Catalogs;
use crate::parallel;
use crate::root::Root;
use crate::worker_pool::{Answer, Failure, Job, Request, WorkerPool};

/// How long the detail of a function may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many functions a worker reads at once: enough that the overhead per request is small, and few enough that the
/// answer fits into a message.
const BATCH: usize = 8;

/// The process that reads.
#[derive(Clone, Copy, Debug)]
pub enum Reader<'a> {
    /// This process, without a deadline: the files of a recording cannot hang.
    Here(&'a Root),
    /// Worker processes.
    Workers {
        /// The workers.
        pool: &'a WorkerPool,
        /// The host's root.
        root: &'a Path,
        /// The device locks, which show that a function is being changed; `None` on a read-only host.
        locks: Option<&'a Locks>,
    },
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
    let mut requests = Vec::new();
    for address in wanted {
        let Some(function) = inventory.functions.get_mut(address) else { continue };
        if depth == Depth::Answer {
            if asleep(function).is_none() && !reader.is_changing(*address) {
                requests.push(DetailRequest { address: *address, depth });
            }
            continue;
        }
        if reader.is_changing(*address) {
            function.notes.push("a change is in progress: detail was not read".into());
            continue;
        }
        let asleep = asleep(function);
        let depth = if asleep.is_some() { Depth::Partitions } else { depth };
        requests.push(DetailRequest { address: *address, depth });
        function.notes.extend(asleep);
    }
    let readings = reader.read(&requests);
    for Reading { address, detail, notes } in readings {
        let Some(function) = inventory.functions.get_mut(&address) else { continue };
        function.notes.extend(notes);
        if depth == Depth::Answer {
            if detail.silent {
                function.detail.get_or_insert_default().silent = true;
            }
            continue;
        }
        function.detail = Some(Box::new(detail));
        // A virtual function can always reset itself: the specification requires it, and the kernel relies on it
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

/// Whether a function has vGPU types by NVIDIA's vendor-specific VFIO. It does not ask the driver, so it cannot block.
pub fn has_vgpu_types(root: &Root, address: Address) -> bool {
    root.exists(&format!(
        "{}/{address}/{}",
        crate::function_files::DEVICES,
        crate::detail::CURRENT_VGPU
    ))
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
        locks.is_locked(&Lock::Function(address)).unwrap_or(false)
    }

    fn read(&self, requests: &[DetailRequest]) -> Vec<Reading> {
        match self {
            Self::Here(root) => parallel::map(requests, |request| read(root, *request)),
            Self::Workers { .. } => {
                let batches: Vec<&[DetailRequest]> = requests.chunks(BATCH).collect();
                parallel::map(&batches, |batch| self.batch(batch)).into_iter().flatten().collect()
            }
        }
    }

    /// Lets a worker read some functions. After a timeout each function is read alone, so that only the one that hangs
    /// has no detail.
    fn batch(&self, requests: &[DetailRequest]) -> Vec<Reading> {
        match (self.call(requests), requests) {
            (Ok(readings), _) => readings,
            (Err(reason), [alone]) => vec![unread(*alone, reason)],
            (Err(_), several) => thread::scope(|scope| {
                let alone =
                    |request| scope.spawn(move || self.batch(std::slice::from_ref(request)));
                let threads: Vec<_> = several.iter().map(alone).collect();
                threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
            }),
        }
    }

    fn call(&self, requests: &[DetailRequest]) -> Result<Vec<Reading>, String> {
        let Self::Workers { pool, root, locks } = self else { return Ok(Vec::new()) };
        let locks = locks.map(|locks| locks.dir().to_owned()).unwrap_or_default();
        let job = Job::ReadDetail(requests.to_vec());
        let request = Request { root: (*root).to_owned(), locks, job };
        match pool.call(&request, None, PATIENCE) {
            Ok(Ok(Answer::Detail(readings))) => Ok(readings),
            Ok(Ok(other)) => {
                Err(format!("cannot read detail: unexpected answer of a worker: {other:?}"))
            }
            Ok(Err(error)) => Err(format!("cannot read detail: {error}")),
            Err(Failure::Deadline { .. }) => Err(format!(
                "timed out after {} s while reading detail: the driver does not answer",
                PATIENCE.as_secs()
            )),
            Err(Failure::Died(reason)) => Err(format!("cannot read detail: {reason}")),
        }
    }
}

fn unread(request: DetailRequest, reason: String) -> Reading {
    Reading { address: request.address, detail: Detail::default(), notes: vec![reason] }
}
