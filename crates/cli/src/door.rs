//! Where claims are made: at the daemon, or here where none runs.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::client::Client;
use clap::Args;
use daemon::cdi::Keeper;
use engine::{Config, Engine};
use model::{Code, Refusal};

use crate::assembled;
use crate::connection::Connection;
use crate::{cdi, output};

/// The daemon, and what is used where none runs
#[derive(Debug, Clone, Args)]
pub struct Door {
    #[command(flatten)]
    pub connection: Connection,

    /// Where the journal is, where no daemon runs
    #[arg(
        long,
        global = true,
        help_heading = "Without a daemon",
        value_name = "DIR",
        default_value = "/var/lib/handover"
    )]
    state_dir: PathBuf,

    /// Where locks are, where no daemon runs
    #[arg(
        long,
        global = true,
        help_heading = "Without a daemon",
        value_name = "DIR",
        default_value = "/run/handover"
    )]
    run_dir: PathBuf,

    /// Where container tools are told of prepared claims, where no daemon runs; none for nowhere
    #[arg(
        long,
        global = true,
        help_heading = "Without a daemon",
        value_name = "DIR|none",
        default_value = daemon::cdi::USUAL
    )]
    pub cdi_dir: PathBuf,
}

impl Door {
    /// Asks the daemon; where none answers at its usual place, does it here, after what an earlier one left open.
    pub fn ask<T, F>(
        &self,
        remote: impl FnOnce(Client) -> F,
        here: impl FnOnce(&Engine) -> Result<T, Refusal>,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        match self.connection.talk(remote) {
            Err(refusal)
                if refusal.code == Code::DaemonUnreachable && self.connection.is_local() =>
            {
                here(&self.engine()?)
            }
            answer => answer,
        }
    }

    /// The engine, in this process: only one at a time has a host's state.
    fn engine(&self) -> Result<Engine, Refusal> {
        let root = Path::new("/");
        let host = assembled::host(root, &self.run_dir)?;
        let launchers = assembled::launchers(root, &self.run_dir, &self.state_dir, None);
        let config = Config {
            state_dir: self.state_dir.clone(),
            image_dirs: Vec::new(),
            // No machine is made here.
            machine_uids: 0..0,
            shutdown_grace: Duration::from_secs(45),
        };
        let boundaries = Arc::new(daemon::Boundaries::from_environment());
        let keeper = Keeper::new(cdi::folder(&self.cdi_dir), boundaries, output::warning);
        let keeper = Arc::new(keeper);
        let engine = Engine::open(config, Arc::new(host), launchers, keeper.clone())?;
        keeper.begin(&engine);
        for note in engine.recover()?.notes {
            eprintln!("recovery: {note}");
        }
        keeper.compare();
        Ok(engine)
    }
}
