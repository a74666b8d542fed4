//! State that an older version of Handover wrote: it opens, what was open is recovered, and everything in it can be
//! used. `states/README.md` says how each file was made.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use engine::{
    Access, CreateInstance, DiskWish, Engine, InstanceState, NewVolume, OperationKind,
    OperationState, WantedContent,
};
use model::{ClaimState, Code, DiskFormat};
use support::{AMD, NIC, Rig, claim, wish};

/// The first format with claims of owners other than machines.
const FIRST_WITH_CLAIMS: u32 = 2;

/// A file of an older version.
struct Stored {
    name: String,
    /// `PRAGMA user_version`: the number of migrations that were applied.
    format: u32,
    bytes: Vec<u8>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/states")
}

fn stored() -> Vec<Stored> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let states = files.filter(|path| path.extension().is_some_and(|extension| extension == "db"));
    let states: Vec<Stored> = states
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let bytes = std::fs::read(&path).unwrap();
            // The file header has it at offset 60, big-endian (sqlite.org/fileformat2.html).
            let format = u32::from_be_bytes(bytes[60..64].try_into().unwrap());
            Stored { name, format, bytes }
        })
        .collect();
    assert!(states.len() >= 3, "{}", folder().display());
    states
}

fn with_claims() -> impl Iterator<Item = Stored> {
    stored().into_iter().filter(|state| state.format >= FIRST_WITH_CLAIMS)
}

/// A host that was rebooted since the state was written, with the image of that time.
fn with_state(bytes: &[u8]) -> Rig {
    let rig = Rig::new();
    let state_dir = rig.config().state_dir;
    std::fs::create_dir_all(&state_dir).unwrap();
    std::fs::write(state_dir.join("state.db"), bytes).unwrap();
    // The files of its volumes, which were beside it.
    let store = rig.sqlite();
    if let Ok(mut volumes) = store.prepare("SELECT id, size FROM volumes") {
        let rows = volumes.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        for (id, size) in rows.map(|row| row.unwrap()) {
            let (id, size): (String, i64) = (id, size);
            let dir = state_dir.join("volumes").join(id);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::File::create(dir.join("disk")).unwrap().set_len(size as u64).unwrap();
        }
    }
    drop(store);
    rig.host.reboot();
    rig
}

/// State with one of everything: a running machine with a device, a prepared and a reserved claim; the engine crashed in
/// the middle of one more claim.
fn write_state(file: &Path) {
    let rig = Rig::ready();
    let engine = rig.open();
    claim(&engine, "a", &["gpu"]);
    claim(&engine, "b", &[NIC]);
    engine.claims().unprepare("job/b").unwrap();
    let new = NewVolume { size: 1 << 20, format: DiskFormat::Raw, allocate: false };
    let disk = DiskWish {
        content: WantedContent::New(new),
        bus: None,
        serial: None,
        read_only: false,
        mount_path: None,
    };
    let vm = CreateInstance { disks: vec![disk], ..wish("vm", &["nvme"]) };
    engine.instances().create(vm).unwrap();
    drop(engine);
    let survived = rig.killed_at(9, |engine| {
        claim(engine, "c", &[AMD]);
    });
    assert!(!survived, "no crash");
    // One file, without a write-ahead log beside it.
    rig.sqlite().execute("VACUUM INTO ?1", [file.to_str().unwrap()]).unwrap();
}

fn owners(engine: &Engine) -> BTreeMap<String, ClaimState> {
    let claims = engine.claims().all().unwrap().into_iter();
    claims.map(|claim| (claim.owner.to_string(), claim.state)).collect()
}

/// After a reboot the machine is stopped, and all claims are reserved.
fn assert_recovered(state: &Stored) {
    let rig = with_state(&state.bytes);
    let (engine, report) = rig.open_recovered();
    let name = &state.name;
    assert!(report.undone.iter().any(|undone| undone.contains("job/c")), "{name}: {report:?}");
    let journal = engine.journal(u32::MAX).unwrap();
    let kinds: BTreeSet<&str> = journal.iter().map(|operation| operation.kind.word()).collect();
    assert!(kinds.is_superset(&BTreeSet::from(["claim", "create"])), "{name}: {kinds:?}");
    assert!(
        journal.iter().all(|operation| operation.state != OperationState::Open),
        "{name}: {journal:#?}"
    );
    let create = journal.iter().find(|operation| operation.kind == OperationKind::Create).unwrap();
    assert!(create.steps.len() > 5, "{name}: {create:#?}");

    let instance = engine.instances().find("vm").unwrap();
    assert_eq!(instance.state, InstanceState::Stopped, "{name}");
    let owners = owners(&engine);
    let machine = format!("instance/{}", instance.id);
    let names: Vec<&str> = owners.keys().map(String::as_str).collect();
    assert!(names.starts_with(&[&machine, "job/a", "job/b"]), "{name}: {names:?}");
    assert!(owners.values().all(|state| *state == ClaimState::Reserved), "{name}: {owners:?}");
}

/// Claims are prepared and released, the machine is deleted, and the host is as it was.
fn assert_usable(state: &Stored) {
    let name = &state.name;
    let rig = with_state(&state.bytes);
    let (engine, _) = rig.open_recovered();
    for owner in ["job/a", "job/b"] {
        let claim = engine.claims().prepare(owner, &Access::default()).unwrap();
        assert_eq!(claim.state, ClaimState::Prepared, "{name}");
    }
    assert_ne!(rig.host.snapshot(), rig.before, "{name}");
    for owner in owners(&engine).keys().filter(|owner| owner.starts_with("job/")) {
        engine.claims().release(owner, None).unwrap();
    }
    assert_eq!(engine.claims().find("job/a").unwrap_err().code, Code::NotFound, "{name}");
    engine.instances().delete("vm").unwrap();
    assert!(engine.claims().all().unwrap().is_empty(), "{name}");
    assert_eq!(rig.host.snapshot(), rig.before, "{name}");
}

#[test]
fn each_format_and_each_release_has_a_state() {
    let rig = Rig::ready();
    let now: u32 = rig.sqlite().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let formats: BTreeSet<u32> = stored().iter().map(|state| state.format).collect();
    assert_eq!(formats, (1..=now).collect());

    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../CHANGELOG.md");
    let log = std::fs::read_to_string(log).unwrap();
    let names: BTreeSet<String> = stored().into_iter().map(|state| state.name).collect();
    for section in log.lines().filter_map(|line| line.strip_prefix("## ")) {
        let version = section.split(' ').next().unwrap();
        let released = version.starts_with(|first: char| first.is_ascii_digit());
        assert!(!released || names.contains(version), "states/{version}.db is missing");
    }
}

#[test]
fn older_state_opens_and_is_recovered() {
    with_claims().for_each(|state| assert_recovered(&state));
}

#[test]
fn claims_in_older_state_are_prepared_and_released() {
    with_claims().for_each(|state| assert_usable(&state));
}

#[test]
fn machines_of_the_first_format_are_kept_and_a_half_made_one_is_undone() {
    for state in stored().into_iter().filter(|state| state.format < FIRST_WITH_CLAIMS) {
        let rig = with_state(&state.bytes);
        let (engine, report) = rig.open_recovered();
        assert_eq!(report.undone.len(), 1, "{}: {report:?}", state.name);
        assert_eq!(engine.instances().find("half").unwrap_err().code, Code::NotFound);
        let instance = engine.instances().find("vm").unwrap();
        assert_eq!(instance.state, InstanceState::Stopped);
        assert_eq!(
            owners(&engine),
            BTreeMap::from([(format!("instance/{}", instance.id), ClaimState::Reserved)])
        );
        engine.instances().start("vm").unwrap();
        engine.instances().delete("vm").unwrap();
        assert!(engine.claims().all().unwrap().is_empty());
        assert_eq!(rig.host.snapshot(), rig.before);
    }
}

/// A release stores this version's state: `HANDOVER_WRITE_STATE=FILE` says where.
#[test]
fn state_of_this_version_passes_the_same_checks() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = std::env::var_os("HANDOVER_WRITE_STATE").map(PathBuf::from);
    let file = wanted.unwrap_or_else(|| dir.path().join("now.db"));
    write_state(&file);
    let bytes = std::fs::read(&file).unwrap();
    let state = Stored { name: "this version".into(), format: FIRST_WITH_CLAIMS, bytes };
    assert_recovered(&state);
    assert_usable(&state);
}
