//! The workers of one daemon: one kept waiting, more when several devices are worked on at once.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fd::OwnedFd;

use super::process::{Worker, WorkerCommand};
use super::protocol::{Job, Outcome, Request};

/// How long a worker may take to do nothing.
const ROUND_TRIP: Duration = Duration::from_secs(10);

/// How a pool is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// How a worker is started.
    pub command: WorkerCommand,
    /// How many are started ahead and kept waiting.
    pub spare: usize,
    /// How many may wait after much work.
    pub most_idle: usize,
}

impl PoolConfig {
    /// One spare worker, at most four idle ones.
    #[must_use]
    pub const fn new(command: WorkerCommand) -> Self {
        Self { command, spare: 1, most_idle: 4 }
    }
}

/// Pre-forked worker processes. They end when the pool is dropped, each after what it is doing.
#[derive(Debug)]
pub struct WorkerPool {
    config: PoolConfig,
    idle: Mutex<Vec<Worker>>,
    missed: Arc<Mutex<Vec<Missed>>>,
}

/// A worker that did not answer in time and may still be inside the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The process.
    pub pid: u32,
    /// What it was told to do.
    pub job: String,
}

/// Why a worker did not do its job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It did not answer in time.
    #[error("process {pid} did not answer in time")]
    Deadline {
        /// The process, which is left alone.
        pid: u32,
    },
    /// It could not be started, or it died.
    #[error("{0}")]
    Died(String),
}

impl WorkerPool {
    /// A pool without workers yet; [`warm`](Self::warm) starts the spare ones.
    #[must_use]
    pub fn new(config: PoolConfig) -> Self {
        Self { config, idle: Mutex::default(), missed: Arc::default() }
    }

    /// Starts spare workers as far as they are missing.
    ///
    /// # Errors
    /// Where one cannot be started.
    pub fn warm(&self) -> std::io::Result<()> {
        let mut idle = self.idle();
        while idle.len() < self.config.spare {
            idle.push(Worker::start(&self.config.command)?);
        }
        Ok(())
    }

    /// Gives a job that does nothing to a worker and waits for its answer: what a worker costs.
    ///
    /// # Errors
    /// Where the worker fails.
    pub fn round_trip(&self) -> Result<(), Failure> {
        let job = Job::Nothing;
        let request = Request { root: "/".into(), locks: PathBuf::new(), job };
        self.call(&request, None, ROUND_TRIP).map(drop)
    }

    /// The workers that did not answer in time and have not ended since.
    #[must_use]
    pub fn missed(&self) -> Vec<Missed> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has a job done by a worker, which gets the lock for as long as it works.
    pub(crate) fn call(
        &self,
        request: &Request,
        lock: Option<OwnedFd>,
        patience: Duration,
    ) -> Result<Outcome, Failure> {
        let mut worker = self.take()?;
        let refused = |errno| Failure::Died(format!("the job cannot be sent to it: {errno}"));
        worker.send(request, lock).map_err(refused)?;
        match worker.answer(patience) {
            Ok(Some(outcome)) => {
                self.put_back(worker);
                Ok(outcome)
            }
            Ok(None) => {
                let pid = worker.pid();
                self.leave_alone(worker, request.job.describe());
                Err(Failure::Deadline { pid })
            }
            Err(reason) => {
                worker.retire();
                Err(Failure::Died(reason))
            }
        }
    }

    fn take(&self) -> Result<Worker, Failure> {
        loop {
            let Some(worker) = self.idle().pop() else { break };
            if worker.is_alive() {
                return Ok(worker);
            }
            worker.retire();
        }
        let command = &self.config.command;
        Worker::start(command).map_err(|error| {
            Failure::Died(format!("{} cannot be started: {error}", command.program.display()))
        })
    }

    fn put_back(&self, worker: Worker) {
        let mut idle = self.idle();
        if idle.len() < self.config.most_idle {
            idle.push(worker);
        } else {
            drop(idle);
            worker.retire();
        }
    }

    /// Keeps a stuck worker watched until it answers or ends, and starts another in its place.
    fn leave_alone(&self, worker: Worker, job: String) {
        let missed = Arc::clone(&self.missed);
        let pid = worker.pid();
        tracing::warn!(pid, job, "a worker missed its deadline and is left alone");
        let entry = Missed { pid, job };
        missed.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        let watch = move || {
            let mut worker = worker;
            let outcome = worker.late_answer();
            tracing::warn!(pid, ?outcome, "a worker that missed its deadline is back");
            worker.retire();
            missed.lock().unwrap_or_else(PoisonError::into_inner).retain(|m| m.pid != pid);
        };
        let named = std::thread::Builder::new().name("stuck-worker".into());
        if let Err(error) = named.spawn(watch) {
            tracing::error!(pid, %error, "no thread to watch a stuck worker");
        }
        if let Err(error) = self.warm() {
            tracing::error!(%error, "no worker in place of the stuck one");
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        for worker in std::mem::take(&mut *self.idle()) {
            worker.retire();
        }
    }
}
