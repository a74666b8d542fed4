//! The journal cannot be written from some boundary on, because another process has locked the store. The operation is
//! rolled back on the host anyway, its refusal says so, and the record is completed later.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{Access, ClaimStep, Engine, JournalEvent, Observer};
use model::{ClaimState, Code, Refusal};
use support::{NIC, Rig, claim, owner, request, wish};

/// Locks the store at a boundary, like another process, until it is released.
struct Locker {
    path: PathBuf,
    left: Mutex<Option<u32>>,
    lock: Mutex<Option<rusqlite::Connection>>,
}

impl Locker {
    fn new(rig: &Rig) -> Arc<Self> {
        let path = rig.config().state_dir.join("state.db");
        Arc::new(Self { path, left: Mutex::default(), lock: Mutex::default() })
    }

    fn lock_after(&self, boundaries: u32) {
        *self.left.lock().unwrap() = Some(boundaries);
    }

    /// Releases the lock; returns whether it was taken.
    fn release(&self) -> bool {
        *self.left.lock().unwrap() = None;
        self.lock.lock().unwrap().take().is_some()
    }
}

impl Observer for Locker {
    fn reached(&self, _event: &JournalEvent) {
        let mut left = self.left.lock().unwrap();
        match left.as_mut() {
            Some(0) => {
                *left = None;
                let connection = rusqlite::Connection::open(&self.path).unwrap();
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                *self.lock.lock().unwrap() = Some(connection);
            }
            Some(more) => *more -= 1,
            None => {}
        }
    }
}

fn opened(rig: &Rig, locker: &Arc<Locker>) -> Engine {
    let engine = rig.open_with(locker.clone()).unwrap();
    engine.recover().unwrap();
    engine.limit_journal_patience(Duration::ZERO).unwrap();
    engine.limit_at_once(1);
    engine
}

fn assert_nothing_open(engine: &Engine, why: &str) {
    let journal = engine.journal(50).unwrap();
    assert!(
        journal.iter().all(|operation| operation.state != engine::OperationState::Open),
        "{why}: {journal:#?}"
    );
}

/// Reconciling is refused while the store is locked. It is retried, because it skips a subject while the thread that
/// watches its machine has the turn.
fn refused_reconcile(engine: &Engine) -> Refusal {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match engine.reconcile() {
            Err(refusal) => return refusal,
            Ok(report) => assert!(Instant::now() < until, "{report:?}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// For each boundary of `verb`: runs `before`, then `verb` with the store locked from that boundary on, and calls
/// `after`; then unlocks the store, lets the engine complete its records, and calls `settled`.
fn at_each_boundary(
    before: impl Fn(&Engine),
    verb: impl Fn(&Engine) -> Result<(), Refusal>,
    after: impl Fn(&Rig, &Engine, &Refusal, &str),
    settled: impl Fn(&Rig, &Engine, bool, &str),
) {
    let mut refused = 0;
    for boundary in 0.. {
        let rig = Rig::ready();
        let locker = Locker::new(&rig);
        let engine = opened(&rig, &locker);
        before(&engine);
        locker.lock_after(boundary);
        let result = verb(&engine);
        let why = format!("locked from boundary {boundary} on: {result:?}");
        if let Err(refusal) = &result {
            assert_eq!(refusal.code, Code::StateUnusable, "{why}");
            assert!(refusal.message.contains("another process has it locked"), "{why}");
            after(&rig, &engine, refusal, &why);
            assert_eq!(refused_reconcile(&engine).code, Code::StateUnusable, "{why}");
            refused += 1;
        }
        let locked = locker.release();
        engine.check_claims().unwrap();
        assert_nothing_open(&engine, &why);
        settled(&rig, &engine, result.is_ok(), &why);
        if !locked {
            break;
        }
    }
    assert!(refused > 2, "only {refused} boundaries");
}

#[test]
fn a_claim_is_rolled_back_if_the_journal_cannot_be_written() {
    at_each_boundary(
        |_| {},
        |engine| engine.claims().claim(&request("a", &["gpu", NIC])).map(drop),
        |rig, engine, refusal, why| {
            rig.assert_untouched(why);
            assert!(refusal.message.contains("rolled back"), "{why}");
            assert!(!refusal.message.contains("no device is touched"), "{why}");
            for claim in engine.claims().all().unwrap() {
                assert_eq!(claim.state, ClaimState::Reserved, "{why}");
            }
        },
        |rig, engine, well, why| {
            if well {
                let claims = engine.claims().all().unwrap();
                assert_eq!(claims.first().unwrap().state, ClaimState::Prepared, "{why}");
                engine.claims().release("job/a", None).unwrap();
            }
            assert!(engine.claims().all().unwrap().is_empty(), "{why}");
            rig.assert_untouched(why);
        },
    );
}

#[test]
fn repeating_a_rolled_back_claim_creates_a_new_one() {
    for boundary in 0.. {
        let rig = Rig::ready();
        let locker = Locker::new(&rig);
        let engine = opened(&rig, &locker);
        locker.lock_after(boundary);
        let first = engine.claims().claim(&request("a", &["gpu"]));
        if !locker.release() {
            break;
        }
        let why = format!("locked from boundary {boundary} on: {first:?}");
        let again = engine.claims().claim(&request("a", &["gpu"])).unwrap();
        assert_eq!(again.claim.state, ClaimState::Prepared, "{why}");
        let shown = rig.host.snapshot();
        assert_ne!(shown, rig.before, "{why}: reported as prepared, but it is not");
        engine.claims().release("job/a", None).unwrap();
        rig.assert_untouched(&why);
    }
}

#[test]
fn a_claim_stays_reserved_if_its_preparation_cannot_be_recorded() {
    at_each_boundary(
        |engine| {
            let mut request = request("a", &["gpu"]);
            request.step = ClaimStep::Reserve;
            engine.claims().claim(&request).unwrap();
        },
        |engine| engine.claims().prepare("job/a", &Access::default()).map(drop),
        |rig, engine, _, why| {
            rig.assert_untouched(why);
            assert_eq!(engine.claims().find("job/a").unwrap().state, ClaimState::Reserved, "{why}");
        },
        |rig, engine, well, why| {
            let state = if well { ClaimState::Prepared } else { ClaimState::Reserved };
            assert_eq!(engine.claims().find("job/a").unwrap().state, state, "{why}");
            engine.claims().release("job/a", None).unwrap();
            rig.assert_untouched(why);
        },
    );
}

#[test]
fn a_release_works_without_the_journal_and_is_recorded_later() {
    at_each_boundary(
        |engine| drop(claim(engine, "a", &["gpu", NIC])),
        |engine| engine.claims().release("job/a", None).map(drop),
        |rig, engine, _, why| {
            rig.assert_untouched(why);
            let claims = engine.claims().all().unwrap();
            assert!(claims.iter().all(|claim| claim.state == ClaimState::Reserved), "{why}");
        },
        |rig, engine, _, why| {
            rig.assert_untouched(why);
            assert!(engine.claims().all().unwrap().is_empty(), "{why}");
        },
    );
}

#[test]
fn a_create_is_rolled_back_if_the_journal_cannot_be_written() {
    at_each_boundary(
        |_| {},
        |engine| engine.instances().create(wish("vm", &["gpu", "nic"])).map(drop),
        |rig, _, _, why| rig.assert_untouched(why),
        |rig, engine, well, why| {
            assert_eq!(
                engine.instances().all(&BTreeMap::new()).unwrap().len(),
                usize::from(well),
                "{why}"
            );
            if well {
                engine.instances().delete("vm").unwrap();
            }
            assert!(engine.claims().all().unwrap().is_empty(), "{why}");
            rig.assert_untouched(why);
        },
    );
}

#[test]
fn a_delete_works_without_the_journal_and_is_recorded_later() {
    at_each_boundary(
        |engine| drop(engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap()),
        |engine| engine.instances().delete("vm"),
        |rig, _, _, why| rig.assert_untouched(why),
        |rig, engine, _, why| {
            assert!(engine.instances().all(&BTreeMap::new()).unwrap().is_empty(), "{why}");
            assert!(engine.claims().all().unwrap().is_empty(), "{why}");
            rig.assert_untouched(why);
        },
    );
}

#[test]
fn recovery_works_after_a_daemon_that_could_not_write_died() {
    for boundary in 0.. {
        let rig = Rig::ready();
        let locker = Locker::new(&rig);
        let engine = opened(&rig, &locker);
        locker.lock_after(boundary);
        let result = engine.claims().claim(&request("a", &["gpu", NIC]));
        let locked = locker.release();
        drop(engine);
        let (engine, _) = rig.open_recovered();
        let why = format!("locked from boundary {boundary} on: {result:?}");
        assert_nothing_open(&engine, &why);
        if !locked {
            break;
        }
        if result.is_err() {
            assert!(engine.claims().all().unwrap().is_empty(), "{why}");
            rig.assert_untouched(&why);
        }
    }
}

#[test]
fn writes_are_retried_while_the_store_is_locked() {
    let rig = Rig::ready();
    let locker = Locker::new(&rig);
    let engine = rig.open_with(locker.clone()).unwrap();
    engine.recover().unwrap();
    locker.lock_after(3);
    let other = locker.clone();
    let letting_go = std::thread::spawn(move || {
        while other.lock.lock().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Longer than SQLite's own timeout.
        std::thread::sleep(Duration::from_secs(1));
        other.release();
    });
    let claim = engine.claims().claim(&request("a", &["gpu"])).unwrap().claim;
    letting_go.join().unwrap();
    assert_eq!(claim.state, ClaimState::Prepared);
    assert_eq!(claim.owner, owner("a"));
}
