//! `claim --dry-run --root`: what would be claimed on another host, from a recording or a tree of files.

use std::sync::Arc;
use std::time::Duration;

use api::{CreateClaim, PlannedClaim};
use engine::{Config, Engine, Silent};
use model::{Code, Refusal};

use crate::source::Source;

/// Chooses and plans on the host of the source, without the claims of its Handover. Changes nothing.
///
/// # Errors
/// Those of the request; the source cannot be read.
pub fn dry_run(source: &Source, body: CreateClaim) -> Result<PlannedClaim, Refusal> {
    let host = source.open()?;
    // An engine needs a state: an empty one, which is removed again.
    let directory = tempfile::tempdir().map_err(|error| {
        Refusal::new(
            Code::Internal,
            format!("cannot create a temporary directory: {error}"),
            "free space below $TMPDIR",
        )
    })?;
    let config = Config {
        state_dir: directory.path().join("state"),
        image_dirs: Vec::new(),
        block_dirs: Vec::new(),
        image_limits: engine::ImageLimits::default(),
        machine_uids: 0..0,
        shutdown_grace: Duration::ZERO,
        journal_timeout: engine::JOURNAL_TIMEOUT,
        journal_kept: engine::JournalKept::ALL,
        guest_init: None,
    };
    let engine = Engine::open(config, Arc::new(host), Vec::new(), Arc::new(Silent))?;
    service::claims::dry_run(&engine, body)
}
