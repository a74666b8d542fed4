//! The host's hardware as it is now, and as it changes, for all who ask the daemon.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::Engine;
use model::{Change, ChangeKind, Following, HostError, Inventory, Owner};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tracing::{debug, info, warn};

/// How many changes a slow listener may lag behind before it loses some: 256 virtual functions come with 1000.
const BACKLOG: usize = 2048;

/// Follows the host's hardware.
#[derive(Clone)]
pub struct Hardware(Arc<Inner>);

struct Inner {
    source: Arc<dyn Following>,
    changes: broadcast::Sender<Change>,
    /// Held while changes are taken and told, so that they are told in their order.
    telling: Mutex<()>,
    deaf: AtomicBool,
}

impl Hardware {
    /// Begins to follow, in a thread that sleeps until something happens, and tells of changes until the process ends.
    #[must_use]
    pub fn follow(source: Arc<dyn Following>) -> Self {
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
            warn!("the host's devices are not followed: {error}");
            hardware.0.deaf.store(true, Ordering::Relaxed);
        }
        hardware
    }

    /// Where those subscribe who want to know what changes.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// The inventory as it is now: with all that the kernel has told until this moment. `None` where the host is not
    /// followed any more.
    #[must_use]
    pub fn inventory(&self) -> Option<Arc<Inventory>> {
        let told = !self.0.deaf.load(Ordering::Relaxed) && self.0.tell().is_ok();
        told.then(|| self.0.source.snapshot())
    }
}

impl Inner {
    /// Tells of changes for as long as the host can be listened to.
    fn listen(&self) -> Result<(), HostError> {
        loop {
            self.source.wait(None)?;
            self.tell()?;
        }
    }

    /// Takes what the host has told of, and tells those who listen.
    fn tell(&self) -> Result<(), HostError> {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        for change in self.source.catch_up()? {
            // Nobody listening is no error.
            let _ = self.changes.send(change);
        }
        Ok(())
    }
}

/// Logs what changes, until nobody tells of it any more.
pub async fn log(mut changes: broadcast::Receiver<Change>, engine: Engine) {
    loop {
        match changes.recv().await {
            Ok(change) => log_one(change, &engine).await,
            Err(RecvError::Lagged(lost)) => warn!("{lost} changes of devices are not in this log"),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn log_one(change: Change, engine: &Engine) {
    let Change { address, name, what } = &change;
    match what {
        ChangeKind::Gone => {
            let (engine, address) = (engine.clone(), *address);
            let asked = move || {
                engine.claims().all().map(|claims| claims.into_iter().find(|c| c.holds(address)))
            };
            match tokio::task::spawn_blocking(asked).await {
                Ok(Ok(Some(claim))) => {
                    let Owner { kind, id } = &claim.owner;
                    warn!("{address} {name} is gone from the host while {kind} {id} has it");
                }
                _ => info!("{address} {name}: {what}"),
            }
        }
        ChangeKind::Error { .. } => warn!("{address} {name} {what}"),
        ChangeKind::Appeared { .. } => info!("{address} {name}: {what}"),
        _ => debug!("{address} {name}: {what}"),
    }
}
