//! The start: recovery runs while the daemon listens, and the service manager is told what it waits for.

use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, RecoveryReport, RecoveryTask};
use model::{Change, Code, Refusal};
use service::Unrecovered;
use tokio::sync::{Notify, broadcast, watch};
use tracing::{error, info, warn};

use super::notify;

/// How often the service manager is told what recovery waits for.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How much time the service manager is asked for each time.
const MORE_TIME: Duration = Duration::from_secs(60);

/// A daemon that is not recovered yet.
pub struct Starting {
    opened: Unrecovered,
    started: watch::Sender<bool>,
    leases: Arc<Notify>,
    changes: Option<broadcast::Receiver<Change>>,
}

impl Starting {
    /// The start of a daemon. The receiver becomes true when recovery has ended.
    pub fn new(
        opened: Unrecovered,
        leases: Arc<Notify>,
        changes: Option<broadcast::Receiver<Change>>,
    ) -> (Self, watch::Receiver<bool>) {
        let (started, receiver) = watch::channel(false);
        (Self { opened, started, leases, changes }, receiver)
    }

    /// Recovers, then reports readiness and begins the daemon's own tasks. Returns only if recovery fails.
    pub async fn failed(self) -> Refusal {
        let Self { opened, started, leases, changes } = self;
        let engine = opened.engine().clone();
        if let Err(refusal) = recover(opened, &engine).await {
            return refusal;
        }
        started.send_replace(true);
        notify::send("READY=1\nSTATUS=serving");
        tokio::spawn(crate::leases::watch(engine.clone(), leases));
        let machines = engine.clone();
        let supervising = std::thread::Builder::new().name("autostart".into());
        if let Err(error) = supervising.spawn(move || machines.instances().supervise()) {
            error!(%error, "cannot start the machines that start with the host");
        }
        tokio::spawn(crate::maintenance::watch(engine, changes));
        std::future::pending().await
    }
}

/// Recovers in another thread. Meanwhile the log and the service manager are told what it waits for.
async fn recover(opened: Unrecovered, engine: &Engine) -> Result<(), Refusal> {
    notify::send(&status(&[]));
    let mut recovered = tokio::task::spawn_blocking(move || opened.recover(log_report));
    let mut next = tokio::time::interval(TELL_EVERY);
    // The first tick comes at once.
    next.tick().await;
    let mut logged = Vec::new();
    loop {
        tokio::select! {
            ended = &mut recovered => return ended.unwrap_or_else(|error| Err(panicked(&error))),
            _ = next.tick() => {
                let tasks: Vec<String> =
                    engine.recovering().iter().map(RecoveryTask::describe).collect();
                notify::send(&status(&tasks));
                if tasks != logged {
                    tasks.iter().for_each(|task| warn!("starting: {task}"));
                    logged = tasks;
                }
            }
        }
    }
}

/// What the service manager is told: one variable a line.
fn status(tasks: &[String]) -> String {
    let tasks = match tasks {
        [] => "recovering".to_owned(),
        tasks => tasks.join("; ").replace('\n', " "),
    };
    format!("STATUS=starting: {tasks}\nEXTEND_TIMEOUT_USEC={}", MORE_TIME.as_micros())
}

fn panicked(error: &tokio::task::JoinError) -> Refusal {
    Refusal::new(
        Code::Internal,
        format!("recovery ended unexpectedly: {error}"),
        "check the daemon's log (journalctl -u handover), and report this as a bug",
    )
}

fn log_report(report: &RecoveryReport) {
    for operation in &report.finished {
        info!("recovery finished: {operation}");
    }
    for operation in &report.undone {
        info!("recovery undid: {operation}");
    }
    for name in &report.adopted {
        info!(instance = %name, "found running, managed again");
    }
    for note in &report.notes {
        warn!("recovery: {note}");
    }
}
