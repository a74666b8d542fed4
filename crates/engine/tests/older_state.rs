//! State that an older version of Handover wrote: it opens, what was open is recovered, and everything in it can be
//! used.
//!
//! `states/before-typed-journal.db` was made on the simulated workstation by commit 109fa2e, the last one that stored
//! the journal's words as free text. The daemon was killed in the middle of the claim `job/c`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use engine::{Access, Engine, InstanceState, OperationKind, OperationState};
use model::{ClaimState, Code};
use support::Rig;

/// A host that was rebooted since the state was written, with the image of that time.
fn with_state(bytes: &[u8]) -> Rig {
    let rig = Rig::new();
    let state_dir = rig.config().state_dir;
    std::fs::create_dir_all(&state_dir).unwrap();
    std::fs::write(state_dir.join("state.db"), bytes).unwrap();
    rig.host.reboot();
    rig
}

fn owners(engine: &Engine) -> BTreeMap<String, ClaimState> {
    let claims = engine.claims().all().unwrap().into_iter();
    claims.map(|claim| (claim.owner.to_string(), claim.state)).collect()
}

#[test]
fn state_written_before_the_journal_was_typed_opens_and_is_recovered() {
    let rig = with_state(include_bytes!("states/before-typed-journal.db"));
    let (engine, report) = rig.open_recovered();
    assert!(report.undone.iter().any(|undone| undone.contains("job/c")), "{report:?}");
    let journal = engine.journal(u32::MAX).unwrap();
    let kinds: BTreeSet<&str> = journal.iter().map(|operation| operation.kind.word()).collect();
    assert_eq!(kinds, BTreeSet::from(["claim", "create"]));
    assert!(
        journal.iter().all(|operation| operation.state != OperationState::Open),
        "{journal:#?}"
    );
    let create = journal.iter().find(|operation| operation.kind == OperationKind::Create).unwrap();
    assert!(create.steps.len() > 5, "{create:#?}");

    let instance = engine.instances().find("vm").unwrap();
    assert_eq!(instance.state, InstanceState::Stopped);
    let owners = owners(&engine);
    let machine = format!("instance/{}", instance.id);
    assert_eq!(owners.keys().map(String::as_str).collect::<Vec<_>>(), [&machine, "job/a", "job/b"]);
    assert!(owners.values().all(|state| *state == ClaimState::Reserved), "{owners:?}");
}

#[test]
fn claims_in_older_state_are_prepared_and_released() {
    let rig = with_state(include_bytes!("states/before-typed-journal.db"));
    let (engine, _) = rig.open_recovered();
    for owner in ["job/a", "job/b"] {
        let claim = engine.claims().prepare(owner, &Access::default()).unwrap();
        assert_eq!(claim.state, ClaimState::Prepared);
    }
    assert_ne!(rig.host.snapshot(), rig.before);
    for owner in ["job/a", "job/b"] {
        engine.claims().release(owner, None).unwrap();
    }
    assert_eq!(engine.claims().find("job/c").unwrap_err().code, Code::NotFound);
    engine.instances().delete("vm").unwrap();
    assert!(engine.claims().all().unwrap().is_empty());
    assert_eq!(rig.host.snapshot(), rig.before);
}
