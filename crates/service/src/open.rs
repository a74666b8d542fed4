//! Opens the engine: recovers its state, and compares the CDI specs with its claims.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use engine::{Config, Engine, Observer, RecoveryReport, RecoveryTask};
use model::{Host, Launcher, Refusal};

use crate::cdi::{Folder, Keeper};

/// After how long a recovery that goes on is reported.
const REPORT_AFTER: Duration = Duration::from_secs(5);

/// The parts of an engine.
pub struct EngineSetup {
    /// State directory and limits.
    pub config: Config,
    /// The host.
    pub host: Arc<dyn Host>,
    /// The launchers of machines.
    pub launchers: Vec<Arc<dyn Launcher>>,
    /// The directory of CDI specs; `None` writes none.
    pub cdi: Option<Folder>,
    /// Observes the journal, after CDI specs are written.
    pub observer: Arc<dyn Observer>,
    /// Warns of a CDI spec that cannot be written, and of what a long recovery waits for.
    pub warn: fn(&str),
}

/// An open engine that is not recovered yet. Its state can be read; nothing must be changed before
/// [`recover`](Self::recover) has ended.
pub struct Unrecovered {
    engine: Engine,
    keeper: Arc<Keeper>,
}

impl EngineSetup {
    /// Opens the engine and recovers; warns of what that waits for, if it takes long. `recovered` gets the report before
    /// the CDI specs are compared.
    ///
    /// # Errors
    /// The state is unusable, or another process has it open.
    pub fn open(self, recovered: impl FnOnce(&RecoveryReport)) -> Result<Engine, Refusal> {
        let warn = self.warn;
        let opened = self.open_unrecovered()?;
        let (ended, end) = channel();
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("progress".into());
            // Without the thread there are no warnings.
            let _ = thread.spawn_scoped(scope, || warn_until(end, &opened.engine, warn));
            let recovered = opened.recover(recovered);
            drop(ended);
            recovered
        })?;
        Ok(opened.engine)
    }

    /// Opens the engine, without recovery.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_unrecovered(self) -> Result<Unrecovered, Refusal> {
        let Self { config, host, launchers, cdi, observer, warn } = self;
        let keeper = Arc::new(Keeper::new(cdi, observer, warn));
        let engine = Engine::open(config, host, launchers, keeper.clone())?;
        keeper.begin(&engine);
        Ok(Unrecovered { engine, keeper })
    }
}

impl Unrecovered {
    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Recovers. `recovered` gets the report before the CDI specs are compared.
    ///
    /// # Errors
    /// The state is unusable, or the host cannot be read.
    pub fn recover(&self, recovered: impl FnOnce(&RecoveryReport)) -> Result<(), Refusal> {
        recovered(&self.engine.recover()?);
        self.keeper.compare();
        Ok(())
    }
}

/// Warns of what recovery waits for, until its end. Each thing is said once.
fn warn_until(end: Receiver<()>, engine: &Engine, warn: fn(&str)) {
    let mut said: Vec<String> = Vec::new();
    while end.recv_timeout(REPORT_AFTER) == Err(RecvTimeoutError::Timeout) {
        for text in engine.recovering().iter().map(RecoveryTask::describe) {
            if !said.contains(&text) {
                warn(&format!("recovery is not finished: {text}"));
                said.push(text);
            }
        }
    }
}
