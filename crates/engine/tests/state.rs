//! Unusable state is reported, and no device is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;

use engine::{ClaimRequest, Config, Engine, Silent};
use model::{Code, Refusal};
use support::{Rig, wish};

fn opened(rig: &Rig) -> Result<Engine, Refusal> {
    Engine::open(rig.config(), rig.host.clone(), vec![rig.launcher.clone()], Arc::new(Silent))
}

#[test]
fn one_engine_at_a_time_and_the_refusal_names_the_other() {
    let rig = Rig::new();
    let engine = rig.open();
    let refusal = opened(&rig).err().unwrap();
    assert_eq!(refusal.code, Code::StateLocked);
    assert!(refusal.message.contains(&std::process::id().to_string()), "{refusal}");
    drop(engine);
    opened(&rig).unwrap();
}

/// As with a daemon in a container beside the host's own.
#[test]
fn one_engine_per_host_whatever_its_directories() {
    let rig = Rig::new();
    let engine = rig.open();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = Config { state_dir: elsewhere.path().join("state"), ..rig.config() };
    let other = || Engine::open(config.clone(), rig.host.clone(), Vec::new(), Arc::new(Silent));
    let refusal = other().err().unwrap();
    assert_eq!(refusal.code, Code::StateLocked);
    let state_dir = rig.config().state_dir.display().to_string();
    let pid = format!("pid {}", std::process::id());
    assert!(refusal.message.contains(&state_dir) && refusal.message.contains(&pid), "{refusal}");
    assert!(!config.state_dir.exists(), "the refused engine created its state");
    drop(engine);
    let engine = other().unwrap();
    assert_eq!(opened(&rig).err().unwrap().code, Code::StateLocked);
    drop(engine);
    opened(&rig).unwrap();
}

#[test]
fn a_removed_lock_file_lets_no_second_engine_in() {
    let rig = Rig::new();
    let engine = rig.open();
    std::fs::remove_file(rig.config().state_dir.join("lock")).unwrap();
    assert_eq!(opened(&rig).err().unwrap().code, Code::StateLocked);
    drop(engine);
    opened(&rig).unwrap();
}

#[test]
fn a_host_that_was_rebooted_is_not_locked() {
    let rig = Rig::new();
    let engine = rig.open();
    rig.host.reboot();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = Config { state_dir: elsewhere.path().to_owned(), ..rig.config() };
    let other = Engine::open(config, rig.host.clone(), Vec::new(), Arc::new(Silent)).unwrap();
    drop(engine);
    assert_eq!(opened(&rig).err().unwrap().code, Code::StateLocked);
    drop(other);
    opened(&rig).unwrap();
}

#[test]
fn a_newer_schema_is_not_touched() {
    let rig = Rig::ready();
    let file = rig.config().state_dir.join("state.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 999).unwrap();
    drop(connection);
    let refusal = opened(&rig).err().unwrap();
    assert_eq!(refusal.code, Code::StateUnusable);
    assert!(refusal.message.contains("written by a newer version"), "{refusal}");
    rig.assert_untouched("a newer schema");
}

#[test]
fn a_damaged_file_is_reported() {
    let rig = Rig::ready();
    let path = rig.config().state_dir.join("state.db");
    let length = std::fs::metadata(&path).unwrap().len();
    for (what, at, bytes) in
        [("the header", 0, &[0u8; 100][..]), ("a table", length / 2 / 4096 * 4096, &[0x5a; 4096])]
    {
        let whole = std::fs::read(&path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(bytes, at).unwrap();
        let refusal = opened(&rig).err().expect(what);
        assert_eq!(refusal.code, Code::StateUnusable, "{what}: {refusal}");
        std::fs::write(&path, whole).unwrap();
    }
    opened(&rig).unwrap();
}

#[test]
fn an_unknown_word_in_the_journal_is_an_error() {
    let words = [
        "UPDATE operations SET kind = 'teleport', state = 'open'",
        "UPDATE operations SET state = 'open'; UPDATE steps SET state = 'halfway'",
    ];
    for word in words {
        let rig = Rig::ready();
        let (engine, _) = rig.open_recovered();
        engine.instances().create(wish("vm", &["nic"])).unwrap();
        let during = rig.host.snapshot();
        drop(engine);
        rig.sqlite().execute_batch(word).unwrap();
        let refusal = rig.open().recover().unwrap_err();
        assert_eq!(refusal.code, Code::StateUnusable, "{word}: {refusal}");
        assert_eq!(rig.host.snapshot(), during, "{word}");
    }
}

#[test]
fn the_file_can_be_read_beside_the_daemon() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    let connection = rusqlite::Connection::open(rig.config().state_dir.join("state.db")).unwrap();
    let count = |table: &str| -> i64 {
        let count = format!("SELECT COUNT(*) FROM {table}");
        connection.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("instances"), count("claims"), count("devices")), (1, 1, 4));
    assert!(count("steps") > 5);
}

#[test]
fn other_users_cannot_take_the_lock() {
    let rig = Rig::new();
    let lock = rig.config().state_dir.join("lock");
    let mode = || std::fs::metadata(&lock).unwrap().permissions().mode() & 0o777;
    drop(opened(&rig).unwrap());
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&lock, Permissions::from_mode(0o666)).unwrap();
    drop(opened(&rig).unwrap());
    assert_eq!(mode(), 0o600, "also if an earlier version created it");
}

#[test]
fn a_backup_is_made_while_the_engine_works_and_put_back_while_none_does() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    support::claim(&engine, "kept", &["nic"]);
    let file = rig.dir.path().join("backup.db");
    let state_dir = rig.config().state_dir;
    engine::backup(&state_dir, &file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(engine::backup(&state_dir, &file).unwrap_err().code, Code::AlreadyExists);
    support::claim(&engine, "lost", &[support::AMD]);
    assert_eq!(engine::restore(&state_dir, &file).unwrap_err().code, Code::StateLocked);
    drop(engine);
    let kept = engine::restore(&state_dir, &file).unwrap().kept.unwrap();
    let claims = |path: &std::path::Path| {
        let store = rusqlite::Connection::open(path).unwrap();
        store.query_row("SELECT COUNT(*) FROM claims", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((claims(&kept), claims(&state_dir.join("state.db"))), (2, 1));
    // Comparing both leaves no files of SQLite.
    assert!(!state_dir.join("state.db.replaced-1-shm").exists());
    let again = engine::restore(&state_dir, &file).unwrap().kept;
    assert_ne!(again.unwrap(), kept, "it was overwritten");
    let restored = std::fs::metadata(state_dir.join("state.db")).unwrap();
    assert_eq!(restored.permissions().mode() & 0o777, 0o600);
    let (engine, _) = rig.open_recovered();
    let owners: Vec<String> =
        engine.claims().all().unwrap().iter().map(|claim| claim.owner.to_string()).collect();
    assert_eq!(owners, ["job/kept"]);
    // The claim that the backup does not know is known by its mark.
    assert_eq!(support::refused(&engine, "b", &[support::AMD]).code, Code::InUse);
    let report = engine.reconcile().unwrap();
    let noted = |note: &String| note.contains(support::AMD) && note.contains("not recorded");
    assert!(report.notes.iter().any(noted), "{report:?}");
    engine.devices().return_unclaimed(&[]).unwrap();
    engine.claims().release("job/kept", None).unwrap();
    rig.assert_untouched("released and returned");
}

/// The claim of a backup had the NIC, which another claim has now: its machine runs on it.
#[test]
fn a_restored_claim_does_not_take_a_device_from_its_owner_of_today() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    support::claim(&engine, "then", &["nic"]);
    let file = rig.dir.path().join("backup.db");
    let state_dir = rig.config().state_dir;
    engine::backup(&state_dir, &file).unwrap();
    engine.claims().release("job/then", None).unwrap();
    support::claim(&engine, "today", &["nic"]);
    let during = rig.host.snapshot();
    drop(engine);
    engine::restore(&state_dir, &file).unwrap();
    let (engine, _) = rig.open_recovered();
    let report = engine.reconcile().unwrap();
    let noted = report.notes.iter().filter(|note| note.contains("release this claim, then run"));
    assert_eq!(noted.count(), 1, "{report:?}");
    let refusal = engine.claims().prepare("job/then", &engine::Access::default()).unwrap_err();
    assert_eq!(refusal.code, Code::InUse, "another claim has the device");
    let notes = engine.claims().release("job/then", None).unwrap();
    assert!(notes.iter().any(|note| note.contains("another claim's mark")), "{notes:?}");
    assert_eq!(rig.host.snapshot(), during, "the device was taken from job/today");
    // Its own claim is not recorded: a person returns it.
    engine.devices().return_unclaimed(&[support::at(support::NIC)]).unwrap();
    rig.assert_untouched("returned");
}

/// The boot list and mdevctl's definitions are files, which no backup has.
#[test]
fn entries_of_claims_since_the_backup_are_noted() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let before = ClaimRequest { at_boot: true, ..support::request("then", &["nic"]) };
    engine.claims().claim(&before).unwrap();
    let file = rig.dir.path().join("backup.db");
    let state_dir = rig.config().state_dir;
    engine::backup(&state_dir, &file).unwrap();
    let since = ClaimRequest { at_boot: true, ..support::request("since", &[support::AMD]) };
    engine.claims().claim(&since).unwrap();
    drop(engine);
    let notes = engine::restore(&state_dir, &file).unwrap().notes;
    let remedy = format!("boot-list --remove {}", support::AMD);
    assert!(notes.iter().any(|note| note.contains(&remedy)), "{notes:?}");
    assert!(notes.iter().all(|note| note.contains("job/since")), "{notes:?}");
}

#[test]
fn partitions_of_claims_since_the_backup_are_noted() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let nic = "0000:01:00.0";
    engine.vf_counts().set(nic, 2, false).unwrap();
    let file = rig.dir.path().join("backup.db");
    let state_dir = rig.config().state_dir;
    engine::backup(&state_dir, &file).unwrap();
    let tagged = format!("vf@{nic},vlan=5");
    support::claim(&engine, "tagged", &[tagged.as_str()]);
    let plain = format!("vf@{nic}");
    support::claim(&engine, "plain", &[plain.as_str()]);
    let mdev = support::claim(&engine, "mdev", &["profile=A100-10C"]);
    drop(engine);
    let notes = engine::restore(&state_dir, &file).unwrap().notes;
    let uuid = mdev.parts[0].partition.as_ref().unwrap().mdev().unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().any(|note| note.contains(&format!("devices/{uuid}/remove"))), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("job/tagged") && note.contains("VLAN")));
}

#[test]
fn a_store_that_another_process_reads_is_not_replaced() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let file = rig.dir.path().join("backup.db");
    let state_dir = rig.config().state_dir;
    engine::backup(&state_dir, &file).unwrap();
    let reader = rig.sqlite();
    reader.execute_batch("BEGIN; SELECT * FROM claims").unwrap();
    support::claim(&engine, "later", &["nic"]);
    drop(engine);
    let refusal = engine::restore(&state_dir, &file).unwrap_err();
    assert!(refusal.message.contains("another process reads it"), "{refusal}");
    reader.execute_batch("COMMIT").unwrap();
    engine::restore(&state_dir, &file).unwrap();
}

#[test]
fn a_file_that_is_no_backup_is_not_restored() {
    let rig = Rig::ready();
    let state_dir = rig.config().state_dir;
    let before = std::fs::read(state_dir.join("state.db")).unwrap();
    let file = rig.dir.path().join("backup.db");
    assert_eq!(engine::restore(&state_dir, &file).unwrap_err().code, Code::NotFound);
    for bytes in [&b""[..], b"no database", &before[..before.len() / 2]] {
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(engine::restore(&state_dir, &file).unwrap_err().code, Code::StateUnusable);
    }
    // Opening a FIFO waits for a writer.
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    assert_eq!(engine::restore(&state_dir, &file).unwrap_err().code, Code::StateUnusable);
    std::fs::remove_file(&file).unwrap();
    // A database of the right format, of another program.
    let foreign = rusqlite::Connection::open(&file).unwrap();
    foreign.execute_batch("CREATE TABLE claims (id TEXT); PRAGMA user_version = 3").unwrap();
    let refusal = engine::restore(&state_dir, &file).unwrap_err();
    assert!(refusal.message.contains("backup.db: it is damaged, or no state"), "{refusal}");
    assert!(refusal.remedy.contains("another backup"), "{refusal}");
    assert!(!state_dir.join("state.db.new").exists());
    assert_eq!(std::fs::read(state_dir.join("state.db")).unwrap(), before);
    assert_eq!(
        engine::backup(&rig.dir.path().join("none"), &file).unwrap_err().code,
        Code::NotFound
    );
    // Nor does a backup wait for a writer.
    let other = rig.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let made = std::process::Command::new("mkfifo").arg(other.join("state.db")).status().unwrap();
    assert!(made.success());
    let copy = rig.dir.path().join("copy.db");
    assert_eq!(engine::backup(&other, &copy).unwrap_err().code, Code::StateUnusable);
}

/// The store was moved away, its log was not: SQLite would apply the log to the restored store.
#[test]
fn a_log_that_was_left_behind_does_not_reach_the_restored_store() {
    let rig = Rig::ready();
    let state_dir = rig.config().state_dir;
    let file = rig.dir.path().join("backup.db");
    engine::backup(&state_dir, &file).unwrap();
    let (engine, _) = rig.open_recovered();
    support::claim(&engine, "late", &[support::NIC]);
    // The log as a killed process leaves it: closing the store removes it.
    let log = state_dir.join("state.db-wal");
    let bytes = std::fs::read(&log).unwrap();
    assert!(!bytes.is_empty());
    drop(engine);
    std::fs::remove_file(state_dir.join("state.db")).unwrap();
    std::fs::write(&log, &bytes).unwrap();
    assert_eq!(engine::restore(&state_dir, &file).unwrap().kept, None);
    assert_eq!(std::fs::read(state_dir.join("state.db.replaced-1-wal")).unwrap(), bytes);
    let (engine, _) = rig.open_recovered();
    assert!(engine.claims().all().unwrap().is_empty());
    assert!(engine.devices().find("nic").is_ok());
}

/// A machine that was started after the backup was made still runs after the restore.
#[test]
fn a_machine_that_no_instance_has_is_noted_and_keeps_its_user() {
    let rig = Rig::ready();
    let state_dir = rig.config().state_dir;
    let file = rig.dir.path().join("backup.db");
    engine::backup(&state_dir, &file).unwrap();
    let engine = rig.open();
    let late = engine.instances().create(support::wish("late", &["nic"])).unwrap();
    drop(engine);
    engine::restore(&state_dir, &file).unwrap();

    let (engine, started) = rig.open_recovered();
    let reconciled = engine.reconcile().unwrap();
    for report in [started, reconciled] {
        let noted = |note: &&String| note.contains(&late.id.to_string()) && note.contains("runs");
        assert_eq!(report.notes.iter().filter(noted).count(), 1, "{report:?}");
    }
    let next = engine.instances().create(support::wish("next", &["nvme"])).unwrap();
    assert_ne!(next.uid, late.uid);
}

#[test]
fn a_negative_version_is_damage_and_no_newer_version() {
    let rig = Rig::ready();
    rig.sqlite().pragma_update(None, "user_version", -1).unwrap();
    let refusal = opened(&rig).err().unwrap();
    assert_eq!(refusal.code, Code::StateUnusable);
    assert!(refusal.message.contains("damaged"), "{refusal}");
}
