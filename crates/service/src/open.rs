//! Opening the engine: its state is recovered, and the files of container tools are compared with its claims.

use std::sync::Arc;

use engine::{Config, Engine, Observer, RecoveryReport};
use model::{Host, Launcher, Refusal};

use crate::cdi::{Folder, Keeper};

/// What an engine is put together of.
pub struct EngineSetup {
    /// Where its state is, and its limits.
    pub config: Config,
    /// The host that it works on.
    pub host: Arc<dyn Host>,
    /// What starts machines.
    pub launchers: Vec<Arc<dyn Launcher>>,
    /// Where the files for container tools are; `None` writes none.
    pub cdi: Option<Folder>,
    /// Observes the journal, after the files for container tools are written.
    pub observer: Arc<dyn Observer>,
    /// Warns of a file for container tools that cannot be written.
    pub warn: fn(&str),
}

impl EngineSetup {
    /// Opens the engine and recovers. `recovered` sees the report before the files for container tools are compared.
    ///
    /// # Errors
    /// Where the state cannot be used, or another process has it open.
    pub fn open(self, recovered: impl FnOnce(&RecoveryReport)) -> Result<Engine, Refusal> {
        let Self { config, host, launchers, cdi, observer, warn } = self;
        let keeper = Arc::new(Keeper::new(cdi, observer, warn));
        let engine = Engine::open(config, host, launchers, keeper.clone())?;
        keeper.begin(&engine);
        recovered(&engine.recover()?);
        keeper.compare();
        Ok(engine)
    }
}
