//! A backup of the store, which `handover restore` reads: a file of SQLite with the journal.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::{Config, Engine, Silent};
use sim::SimHost;

use super::scratch;
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "store",
    reads: "a backup of the store",
    read,
    words: &[
        "SQLite format 3\u{0}",
        "reserved",
        "prepared",
        "wedged",
        "open",
        "failed",
        "claim",
        "{\"step\":\"bind\"",
        "0000:01:00.0",
        "person/anna",
        "null",
        "CREATE TABLE ",
        "INTEGER",
    ],
    longest: 1 << 18,
};

fn read(bytes: &[u8]) -> Kind {
    let Ok(dir) = scratch::dir() else { return Kind::of("no directory") };
    let (file, state_dir) = (dir.path().join("backup"), dir.path().join("state"));
    let written = fs::write(&file, bytes);
    assert!(written.is_ok(), "{written:?}");
    if let Err(refusal) = engine::restore(&state_dir, &file) {
        assert!(!state_dir.join("state.db").exists(), "a refused backup has become the store");
        return Kind::of(refusal.message);
    }
    opened(&state_dir)
}

/// What was restored can be opened, recovered and read, or is refused.
fn opened(state_dir: &Path) -> Kind {
    let config = Config {
        state_dir: state_dir.to_owned(),
        image_dirs: Vec::new(),
        block_dirs: Vec::new(),
        image_limits: engine::ImageLimits::default(),
        machine_uids: 200_000..200_100,
        shutdown_grace: Duration::from_secs(1),
        journal_timeout: Duration::from_millis(100),
        journal_kept: engine::JournalKept::default(),
        guest_init: None,
    };
    let host = Arc::new(SimHost::new(sim::workstation()));
    let engine = match Engine::open(config, host, Vec::new(), Arc::new(Silent)) {
        Ok(engine) => engine,
        Err(refusal) => return Kind::of(refusal.message),
    };
    let recovered =
        engine.recover().map(|report| report.notes.join(" ")).map_err(|refusal| refusal.message);
    let claims = engine.claims().all().map(|all| all.len()).map_err(|refusal| refusal.message);
    let journal = engine.journal(100).map(|all| all.len()).map_err(|refusal| refusal.message);
    let devices = engine
        .devices()
        .all(&BTreeMap::new())
        .map(|all| all.len())
        .map_err(|refusal| refusal.message);
    Kind::of_result(&recovered)
        .with(Kind::of_result(&claims))
        .with(Kind::of_result(&journal))
        .with(Kind::of_result(&devices))
}
