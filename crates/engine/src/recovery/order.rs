//! In which order the independent parts of a recovery are performed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use model::Refusal;

use crate::RecoveryReport;
use crate::lock::lock;

/// A part of a recovery that touches no device of another part.
pub type Job<'a> = Box<dyn FnOnce(&mut RecoveryReport) -> Result<(), Refusal> + Send + 'a>;

/// The order of independent parts.
pub enum Order<'a> {
    /// In parallel, at most this many at the same time.
    Parallel(usize),
    /// One after another in this thread. The function picks the next one of so many.
    OneByOne(&'a mut dyn FnMut(usize) -> usize),
}

impl Order<'_> {
    /// Performs all jobs, and adds their reports to `report`. After an error no other job is begun.
    pub fn perform(
        &mut self,
        mut jobs: Vec<Job<'_>>,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        match self {
            Self::Parallel(most) => parallel(jobs, *most, report),
            Self::OneByOne(pick) => {
                while !jobs.is_empty() {
                    let next = pick(jobs.len()) % jobs.len();
                    jobs.remove(next)(report)?;
                }
                Ok(())
            }
        }
    }
}

fn parallel(jobs: Vec<Job<'_>>, most: usize, report: &mut RecoveryReport) -> Result<(), Refusal> {
    let threads = jobs.len().min(most.max(1));
    let queue = Mutex::new(jobs.into_iter().enumerate());
    let reports: Mutex<BTreeMap<usize, RecoveryReport>> = Mutex::default();
    let failed: Mutex<Option<Refusal>> = Mutex::default();
    let work = || {
        while lock(&failed).is_none() {
            let next = lock(&queue).next();
            let Some((number, job)) = next else { return };
            let mut own = RecoveryReport::default();
            let result = job(&mut own);
            lock(&reports).insert(number, own);
            if let Err(refusal) = result {
                lock(&failed).get_or_insert(refusal);
            }
        }
    };
    std::thread::scope(|scope| {
        // This thread works too: without another one, it does everything.
        let start = |_| {
            let thread = std::thread::Builder::new().name("recovery".into());
            thread.spawn_scoped(scope, work).ok()
        };
        let others: Vec<_> = (1..threads).map_while(start).collect();
        work();
        for thread in others {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    for own in std::mem::take(&mut *lock(&reports)).into_values() {
        report.add(own);
    }
    let failed = lock(&failed).take();
    failed.map_or(Ok(()), Err)
}
