//! The workers of one daemon: one spare, and more when several devices are changed at once.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fd::OwnedFd;

use super::process::{Worker, WorkerCommand};
use super::protocol::{Job, Outcome, Request};

/// How long a worker may take for an empty job.
const ROUND_TRIP: Duration = Duration::from_secs(10);

/// How a pool is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The command that starts a worker.
    pub command: WorkerCommand,
    /// How many workers are started in advance.
    pub spare: usize,
    /// How many idle workers are kept at most.
    pub most_idle: usize,
}

impl PoolConfig {
    /// One spare worker, at most four idle ones.
    #[must_use]
    pub const fn new(command: WorkerCommand) -> Self {
        Self { command, spare: 1, most_idle: 4 }
    }
}

/// Worker processes started in advance. They exit when the pool is dropped, each after its current job.
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
    /// Its job, in words.
    pub job: String,
}

/// Why a worker did not complete its job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It did not answer in time.
    #[error("process {pid} did not answer in time")]
    Deadline {
        /// The process, which keeps running.
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

    /// Starts missing spare workers.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn warm(&self) -> std::io::Result<()> {
        let mut idle = self.idle();
        while idle.len() < self.config.spare {
            idle.push(Worker::start(&self.config.command)?);
        }
        Ok(())
    }

    /// Sends an empty job to a worker and waits for its answer, to measure the overhead.
    ///
    /// # Errors
    /// If the worker fails.
    pub fn round_trip(&self) -> Result<(), Failure> {
        let job = Job::Nothing;
        let request = Request { root: "/".into(), locks: PathBuf::new(), job };
        self.call(&request, None, ROUND_TRIP).map(drop)
    }

    /// The workers that did not answer in time and have not exited since.
    #[must_use]
    pub fn missed(&self) -> Vec<Missed> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets a worker do a job. The worker holds the lock until the job is done.
    pub(crate) fn call(
        &self,
        request: &Request,
        lock: Option<OwnedFd>,
        patience: Duration,
    ) -> Result<Outcome, Failure> {
        let mut worker = self.take()?;
        let refused = |errno| Failure::Died(format!("cannot send the job: {errno}"));
        worker.send(request, lock).map_err(refused)?;
        match worker.answer(patience) {
            Ok(Some(outcome)) => {
                self.put_back(worker);
                Ok(outcome)
            }
            Ok(None) => {
                let pid = worker.pid();
                self.abandon(worker, request.job.describe());
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
            Failure::Died(format!("cannot start {}: {error}", command.program.display()))
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

    /// Watches a stuck worker until it answers or exits, and starts another in its place.
    fn abandon(&self, worker: Worker, job: String) {
        let missed = Arc::clone(&self.missed);
        let pid = worker.pid();
        tracing::warn!(pid, job, "a worker missed its deadline; it keeps running");
        let entry = Missed { pid, job };
        missed.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        let watch = move || {
            let mut worker = worker;
            let outcome = worker.late_answer();
            tracing::warn!(pid, ?outcome, "a worker that missed its deadline has answered");
            worker.retire();
            missed.lock().unwrap_or_else(PoisonError::into_inner).retain(|m| m.pid != pid);
        };
        let named = std::thread::Builder::new().name("stuck-worker".into());
        if let Err(error) = named.spawn(watch) {
            tracing::error!(pid, %error, "cannot start a thread to watch a stuck worker");
        }
        if let Err(error) = self.warm() {
            tracing::error!(%error, "cannot start a worker in place of a stuck one");
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
