//! The host's current hardware, and its changes, for clients of the daemon.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::Engine;
use model::{Change, ChangeKind, HostError, HostMonitor, Inventory, Owner};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tracing::{debug, info, warn};

/// How many changes a slow subscriber may lag behind before it loses some: creating 256 VFs makes about 1000.
const BACKLOG: usize = 2048;

/// Monitors the host's hardware.
#[derive(Clone)]
pub struct Hardware(Arc<Inner>);

struct Inner {
    source: Arc<dyn HostMonitor>,
    changes: broadcast::Sender<Change>,
    /// Held while changes are read and published, to keep their order.
    telling: Mutex<()>,
    deaf: AtomicBool,
}

impl Hardware {
    /// Starts to monitor and publish changes, in a thread that runs until the process ends.
    #[must_use]
    pub fn follow(source: Arc<dyn HostMonitor>) -> Self {
        let (changes, _) = broadcast::channel(BACKLOG);
        let inner = Inner { source, changes, telling: Mutex::default(), deaf: false.into() };
        let hardware = Self(Arc::new(inner));
        let inner = hardware.0.clone();
        let follow = move || {
            if let Err(error) = inner.listen() {
                warn!("uevent monitoring stopped; rescanning on every request: {error}");
                inner.deaf.store(true, Ordering::Relaxed);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("hardware".into()).spawn(follow) {
            warn!("cannot start uevent monitoring: {error}");
            hardware.0.deaf.store(true, Ordering::Relaxed);
        }
        hardware
    }

    /// Subscribes to changes.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// The current inventory, with everything that the kernel has reported so far. `None` if monitoring has stopped.
    #[must_use]
    pub fn inventory(&self) -> Option<Arc<Inventory>> {
        let current = !self.0.deaf.load(Ordering::Relaxed) && self.0.publish().is_ok();
        current.then(|| self.0.source.snapshot())
    }
}

impl Inner {
    /// Publishes changes until monitoring fails.
    fn listen(&self) -> Result<(), HostError> {
        loop {
            self.source.wait(None)?;
            self.publish()?;
        }
    }

    /// Reads pending changes and publishes them.
    fn publish(&self) -> Result<(), HostError> {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        for change in self.source.catch_up()? {
            // No subscriber is not an error.
            let _ = self.changes.send(change);
        }
        Ok(())
    }
}

/// Logs changes until monitoring stops.
pub async fn log(mut changes: broadcast::Receiver<Change>, engine: Engine) {
    loop {
        match changes.recv().await {
            Ok(change) => log_one(change, &engine).await,
            Err(RecvError::Lagged(lost)) => {
                warn!("{lost} changes of devices were lost and are not logged")
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn log_one(change: Change, engine: &Engine) {
    let Change { address, name, kind } = &change;
    match kind {
        ChangeKind::Gone => {
            let (engine, address) = (engine.clone(), *address);
            let asked = move || {
                engine.claims().all().map(|claims| claims.into_iter().find(|c| c.holds(address)))
            };
            match tokio::task::spawn_blocking(asked).await {
                Ok(Ok(Some(claim))) => {
                    let Owner { kind, id } = &claim.owner;
                    warn!("{address} {name} disappeared from the host while {kind} {id} uses it");
                }
                _ => info!("{address} {name}: {kind}"),
            }
        }
        ChangeKind::Error { .. } => warn!("{address} {name} {kind}"),
        ChangeKind::Appeared { .. } => info!("{address} {name}: {kind}"),
        _ => debug!("{address} {name}: {kind}"),
    }
}
