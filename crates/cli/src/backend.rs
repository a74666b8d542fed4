//! What serves a command: the daemon or, without one, an engine in this process.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::client::{Client, query_value, segment};
use api::{Claim, CreateClaim, Released};
use clap::Args;
use engine::{Config, Engine};
use model::{Code, Refusal};
use service::cdi::Folder;
use service::claims::{self, ClaimService};
use service::{Boundaries, EngineSetup};

use crate::connection::Connection;
use crate::this_host::STATE_DIR;
use crate::{output, this_host};

/// The usual directory of locks.
const RUN_DIR: &str = "/run/handover";

/// How to reach the daemon, and what to use without one
#[derive(Debug, Clone, Args)]
pub struct Backend {
    #[command(flatten)]
    pub connection: Connection,

    /// Directory of the journal
    #[arg(
        long,
        global = true,
        help_heading = "Without a daemon",
        value_name = "DIR",
        default_value = STATE_DIR
    )]
    state_dir: PathBuf,

    /// Directory of locks
    #[arg(
        long,
        global = true,
        help_heading = "Without a daemon",
        value_name = "DIR",
        default_value = RUN_DIR
    )]
    run_dir: PathBuf,

    /// Directory for CDI specs of prepared claims (`none` disables them)
    #[arg(
        long,
        global = true,
        help_heading = "Without a daemon",
        value_name = "DIR|none",
        default_value = service::cdi::USUAL
    )]
    pub cdi_dir: PathBuf,
}

impl Backend {
    /// Calls the daemon; if none listens at the default URL, runs `here` on an engine in this process, after recovery. A
    /// request that a daemon may have received is never repeated here.
    pub fn ask<T, F>(
        &self,
        remote: impl FnOnce(Client) -> F,
        here: impl FnOnce(&Engine) -> Result<T, Refusal>,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        if self.connection.is_daemon_absent() {
            return here(&self.engine()?);
        }
        let answer = self.connection.talk_now(remote);
        self.warn_of_unused_options();
        answer
    }

    /// Refuses to take the display without a daemon: this command would end with the session that it ends, and the claim would
    /// be left half done until the next command.
    pub fn expect_daemon_for(&self, take_display: bool) -> Result<(), Refusal> {
        if !take_display || !self.connection.is_daemon_absent() {
            return Ok(());
        }
        Err(Refusal::new(
            Code::InvalidState,
            "--take-display needs a running daemon: this command would end with the session that it ends",
            "start the daemon with `systemctl start handover`, or with `handover serve` from ssh, then repeat the command",
        ))
    }

    /// Warns of directories in the options: a daemon that answers has its own.
    fn warn_of_unused_options(&self) {
        let options = [
            ("--state-dir", &self.state_dir, STATE_DIR),
            ("--run-dir", &self.run_dir, RUN_DIR),
            ("--cdi-dir", &self.cdi_dir, service::cdi::USUAL),
        ];
        for (option, given, usual) in options {
            if given != Path::new(usual) {
                output::warning(&format!(
                    "{option} {} is not used: the daemon does this, with its own directories (`handover serve {option}`)",
                    given.display()
                ));
            }
        }
    }

    /// Opens the engine in this process: only one process at a time can open a host's state.
    fn engine(&self) -> Result<Engine, Refusal> {
        let root = Path::new("/");
        let host = this_host::host(root, &self.run_dir)?;
        let launchers = this_host::launchers(root, &self.run_dir, &self.state_dir, None);
        let config = Config {
            state_dir: self.state_dir.clone(),
            image_dirs: Vec::new(),
            block_dirs: Vec::new(),
            image_limits: engine::ImageLimits::default(),
            // No machine is started here.
            machine_uids: 0..0,
            shutdown_grace: Duration::from_secs(45),
            journal_timeout: engine::JOURNAL_TIMEOUT,
            journal_kept: engine::JournalKept::ALL,
            guest_init: None,
        };
        let setup = EngineSetup {
            config,
            host: Arc::new(host),
            launchers,
            cdi: Folder::from_option(&self.cdi_dir),
            observer: Arc::new(Boundaries::from_environment()),
            warn: output::warning,
        };
        let engine = setup.open(|report| {
            let ended = report.finished.iter().map(|one| format!("finished {one}"));
            let undone = report.undone.iter().map(|one| format!("rolled back {one}"));
            let notes = report.notes.iter().cloned();
            ended
                .chain(undone)
                .chain(notes)
                .for_each(|note| output::note(&format!("recovery: {note}")));
        })?;
        // The daemon does this in time; here it is done late.
        let (failed, _) = engine.claims().release_expired()?;
        failed.iter().for_each(|refusal| output::warning(&refusal.to_string()));
        Ok(engine)
    }
}

impl ClaimService for Backend {
    fn list(&self) -> Result<Vec<Claim>, Refusal> {
        self.ask(async |client| client.get("/claims").await, claims::list)
    }

    fn claim(&self, body: CreateClaim) -> Result<Claim, Refusal> {
        let here = body.clone();
        self.ask(
            async |client| client.post("/claims", Some(&body)).await,
            |engine| ClaimService::claim(engine, here),
        )
    }

    fn release(&self, key: &str, owner: Option<&str>) -> Result<Released, Refusal> {
        let query = owner.map(|owner| format!("?owner={}", query_value(owner)));
        let path = format!("/claims/{}{}", segment(key), query.unwrap_or_default());
        self.ask(
            async |client| Ok(client.delete_and_read::<Released>(&path).await?.unwrap_or_default()),
            |engine| claims::release(engine, key, owner),
        )
    }
}
