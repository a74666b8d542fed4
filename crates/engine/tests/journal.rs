//! The journal with failed commits, and its pruning.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{Config, Engine, InstanceState, JournalEvent, JournalKept, Observer, Silent};
use model::{Code, Refusal, Step};
use sim::{Fault, When};
use support::{NIC, NVME, Rig, wish};

/// Reads the states of the last operation's steps at each event, from beside the engine.
struct States {
    beside: Mutex<rusqlite::Connection>,
    seen: Mutex<Vec<(&'static str, Vec<String>)>>,
}

impl Observer for States {
    fn reached(&self, event: &JournalEvent) {
        let event = match event {
            JournalEvent::Intended { .. } => "intended",
            JournalEvent::Performed { .. } => "performed",
            JournalEvent::Closed { .. } => "closed",
            _ => return,
        };
        let beside = self.beside.lock().unwrap();
        let sql = "SELECT state FROM steps WHERE operation = (SELECT MAX(id) FROM operations) ORDER BY seq";
        let mut states = beside.prepare(sql).unwrap();
        let states = states.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        self.seen.lock().unwrap().push((event, states));
    }
}

#[test]
fn a_success_is_recorded_with_the_next_intent_or_with_the_end() {
    let rig = Rig::ready();
    let beside = Mutex::new(rig.sqlite());
    let states = Arc::new(States { beside, seen: Mutex::default() });
    let engine = rig.open_with(states.clone()).unwrap();
    engine.recover().unwrap();
    support::claim(&engine, "one", &[NIC]);
    let seen = std::mem::take(&mut *states.seen.lock().unwrap());
    assert!(seen.len() > 6, "{seen:?}");
    for (event, states) in &seen {
        let expected = |state: &String| state == "done" || state == "skipped";
        match (*event, states.split_last()) {
            ("closed", Some(_)) => assert!(states.iter().all(expected), "{seen:?}"),
            (_, Some((last, earlier))) => {
                assert!(last == "intended" && earlier.iter().all(expected), "{event}: {states:?}");
            }
            (_, None) => panic!("no step is recorded: {seen:?}"),
        }
    }
}

/// Runs `work` while the ends of operations cannot be recorded.
fn on_a_full_disk(rig: &Rig, work: impl FnOnce() -> Result<(), Refusal>) {
    let beside = rig.sqlite();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON operations
        BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    beside.execute_batch(full).unwrap();
    assert_eq!(work().unwrap_err().code, Code::StateUnusable);
    beside.execute_batch("DROP TRIGGER full").unwrap();
}

fn assert_survives_a_restart(rig: &Rig, engine: Engine) {
    let id = engine.instances().find("vm").unwrap().id;
    let during = rig.host.snapshot();
    drop(engine);
    let (engine, report) = rig.open_recovered();
    assert_eq!(report.adopted, ["vm"], "{report:?}");
    assert_eq!(engine.instances().find("vm").unwrap().state, InstanceState::Running);
    assert_eq!(rig.launcher.running(), [id]);
    assert_eq!(rig.host.snapshot(), during);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn a_stop_that_could_not_be_recorded_does_not_stop_a_later_start() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    on_a_full_disk(&rig, || engine.instances().stop("vm").map(drop));
    engine.instances().wait("vm", InstanceState::Shutdown, Duration::from_secs(20)).unwrap();
    engine.instances().start("vm").unwrap();
    assert_survives_a_restart(&rig, engine);
}

#[test]
fn a_delete_that_could_not_be_recorded_is_completed_before_anything_else() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    on_a_full_disk(&rig, || engine.instances().delete("vm"));
    rig.assert_untouched("after the delete that is not recorded");
    assert_eq!(engine.instances().start("vm").unwrap_err().code, Code::NotFound);
    assert!(engine.claims().all().unwrap().is_empty());
    // Its name and its device are free.
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    assert_survives_a_restart(&rig, engine);
}

#[test]
fn old_operations_are_deleted_unless_a_claim_needs_them() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    drop(engine);
    let many = "UPDATE operations SET ended_at = '2020-01-01T00:00:00Z';
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10010)
        INSERT INTO operations (kind, subject, state, boot_id, started_at, ended_at)
        SELECT 'stop', '00000000-0000-0000-0000-000000000001', 'done', '',
            strftime('%Y-%m-%dT%H:%M:%SZ'), strftime('%Y-%m-%dT%H:%M:%SZ') FROM numbers";
    rig.sqlite().execute_batch(many).unwrap();
    let (engine, _) = rig.open_recovered();
    let journal = engine.journal(u32::MAX).unwrap();
    assert_eq!(journal.len(), 10_001);
    assert_eq!(
        journal.last().unwrap().kind,
        engine::OperationKind::Create,
        "the steps to restore the claim are kept"
    );
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
    drop(engine);
    rig.sqlite().execute("UPDATE operations SET ended_at = '2020-01-01T00:00:00Z'", []).unwrap();
    let (engine, _) = rig.open_recovered();
    assert!(engine.journal(1).unwrap().is_empty());
    let steps = "SELECT COUNT(*) FROM steps";
    assert_eq!(rig.sqlite().query_row(steps, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// An engine that keeps only the latest ten operations.
fn forgetful(rig: &Rig) -> Engine {
    let journal_kept = JournalKept { operations: 10, days: 30 };
    let config = Config { journal_kept, ..rig.config() };
    let launchers: Vec<Arc<dyn model::Launcher>> = vec![rig.launcher.clone()];
    let engine = Engine::open(config, rig.host.clone(), launchers, Arc::new(Silent)).unwrap();
    engine.recover().unwrap();
    engine
}

/// Claims and releases the NVMe drive.
fn busy(engine: &Engine, times: usize) {
    for _ in 0..times {
        support::claim(engine, "busy", &[NVME]);
        engine.claims().release("job/busy", None).unwrap();
    }
}

#[test]
fn the_journal_is_pruned_as_it_goes_but_for_what_a_claim_needs() {
    let rig = Rig::new();
    let engine = forgetful(&rig);
    support::claim(&engine, "first", &[NIC]);
    for _ in 0..5 {
        busy(&engine, 60);
        engine.check_claims().unwrap();
        let kept = engine.journal(u32::MAX).unwrap();
        assert_eq!(kept.len(), 11, "{kept:#?}");
    }
    engine.claims().release("job/first", None).unwrap();
    rig.assert_untouched("released");
}

#[test]
fn the_steps_of_a_failed_vf_count_are_kept_until_they_are_undone() {
    let nic = "0000:01:00.0";
    let rig = Rig::on(sim::server());
    let engine = forgetful(&rig);
    let counts = |step: &Step| matches!(step, Step::SetVfCount { .. });
    rig.host.fault(When::Step(Box::new(counts)), Fault::Refuse);
    let back = |step: &Step| matches!(step, Step::SetAutoprobe { to: true, .. });
    rig.host.fault(When::Step(Box::new(back)), Fault::Refuse);
    let refusal = engine.vf_counts().set(nic, 4, false).unwrap_err();
    assert_ne!(rig.host.snapshot(), rig.before, "it was undone");
    assert_eq!(refusal.code, model::Code::UndoFailed, "{refusal}");
    assert!(refusal.remedy.contains(&format!("device clear {nic}")), "{refusal}");
    assert!(!refusal.to_string().contains("changes rolled back"), "{refusal}");
    let other = engine.inventory().unwrap();
    let drive = other.functions.values().find(|f| f.kind() == model::Kind::Nvme).unwrap().address;
    for _ in 0..60 {
        support::claim(&engine, "busy", &[&drive.to_string()]);
        engine.claims().release("job/busy", None).unwrap();
    }
    engine.check_claims().unwrap();
    engine.devices().clear(nic).unwrap();
    assert_eq!(rig.host.snapshot(), rig.before);
}

/// `HANDOVER_YEAR=1` plays a year of two operations a minute; else a day's.
#[test]
fn the_file_stays_small_over_a_year() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let year = std::env::var_os("HANDOVER_YEAR").is_some();
    let days = if year { 365 } else { 1 };
    let mut largest = 0;
    for _ in 0..days * 24 {
        busy(&engine, 60);
        engine.check_claims().unwrap();
        let size = |name: &str| std::fs::metadata(rig.config().state_dir.join(name)).unwrap().len();
        largest = largest.max(size("state.db") + size("state.db-wal"));
    }
    println!("{days} days: at most {} KiB", largest >> 10);
    assert!(largest < 100 << 20, "{largest} bytes");
}

#[test]
fn everything_can_be_kept() {
    let rig = Rig::new();
    let config = Config { journal_kept: JournalKept::ALL, ..rig.config() };
    let launchers: Vec<Arc<dyn model::Launcher>> = vec![rig.launcher.clone()];
    let engine = Engine::open(config, rig.host.clone(), launchers, Arc::new(Silent)).unwrap();
    engine.recover().unwrap();
    busy(&engine, 60);
    engine.check_claims().unwrap();
    assert_eq!(engine.journal(u32::MAX).unwrap().len(), 120);
}
