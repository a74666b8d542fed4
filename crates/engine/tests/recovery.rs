//! Recovery after a crash in several operations at the same time, one of them with a worker that is still in the kernel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{
    Action, Engine, JournalEvent, Observer, OperationKind, RecoveryReport, RecoveryTask,
    RecoveryTaskState,
};
use model::{Address, Step};
use sim::{Fault, When};
use support::{NIC, NVME, Rig, at, claim};

/// Interrupts an operation, like a crash, when a step on this function has been recorded.
#[derive(Default)]
struct Interrupt(Mutex<Option<Address>>);

/// The panic payload of such a crash.
struct Crash;

impl Observer for Interrupt {
    fn reached(&self, event: &JournalEvent) {
        let JournalEvent::Recorded { action: Action::Device(step), .. } = event else { return };
        let mut at = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if is_unbind(step, *at) {
            *at = None;
            drop(at);
            resume_unwind(Box::new(Crash));
        }
    }
}

fn is_unbind(step: &Step, of: Option<Address>) -> bool {
    matches!(step, Step::Unbind { address, .. } if Some(*address) == of)
}

/// Releases the claims of these owners, and crashes in the unbind of each one's function. That of `stuck` is still in the
/// kernel. Returns the functions.
fn interrupted(
    rig: &Rig,
    setup: impl FnOnce(&Engine),
    owners: &[&str],
    stuck: Option<&str>,
) -> Vec<Address> {
    let interrupt = Arc::new(Interrupt::default());
    let engine = rig.open_with(interrupt.clone()).unwrap();
    engine.recover().unwrap();
    setup(&engine);
    let mut functions = Vec::new();
    for owner in owners {
        let function = engine.claims().find(owner).unwrap().head();
        *interrupt.0.lock().unwrap() = function;
        if stuck == Some(owner) {
            let hangs = move |step: &Step| is_unbind(step, function);
            rig.host.fault(When::Step(Box::new(hangs)), Fault::Hang);
        }
        let release = AssertUnwindSafe(|| drop(engine.claims().release(owner, None)));
        assert!(catch_unwind(release).unwrap_err().is::<Crash>());
        functions.extend(function);
    }
    functions
}

/// Recovers in another thread while `meanwhile` runs, with a recovery that waits as long as needed.
fn recovered(rig: &Rig, meanwhile: impl FnOnce(&Engine)) -> RecoveryReport {
    let engine = rig.open();
    engine.limit_patience(Duration::from_secs(600));
    std::thread::scope(|scope| {
        let recovery = scope.spawn(|| engine.recover().unwrap());
        meanwhile(&engine);
        rig.host.release();
        recovery.join().unwrap()
    })
}

/// Waits until what is left to recover is so.
fn until(engine: &Engine, holds: impl Fn(&[RecoveryTask]) -> bool) -> Vec<RecoveryTask> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let tasks = engine.recovering();
        if holds(&tasks) {
            return tasks;
        }
        assert!(Instant::now() < until, "{tasks:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stuck_operation_holds_up_no_other_one() {
    let rig = Rig::new();
    let setup = |engine: &Engine| {
        claim(engine, "one", &[NIC]);
        claim(engine, "two", &[NVME]);
    };
    interrupted(&rig, setup, &["job/one", "job/two"], Some("job/one"));
    let report = recovered(&rig, |engine| {
        let tasks = until(
            engine,
            |tasks| matches!(tasks, [only] if only.state == RecoveryTaskState::Stuck),
        );
        let [task] = tasks.as_slice() else { unreachable!() };
        assert_eq!((task.operation, task.of.as_str()), (OperationKind::Release, "job/one"));
        assert_eq!(
            (task.stuck.as_slice(), task.devices.as_slice()),
            (&[at(NIC)][..], &[at(NIC)][..])
        );
        let step = task.step.as_deref().unwrap();
        assert!(step.contains("unbind") && step.contains(NIC), "{step}");
        let text = task.describe();
        let expected = format!(
            "release of job/one ({NIC}): waits for a step on {NIC} that still runs in the kernel"
        );
        assert!(text.starts_with(&expected) && text.contains(step), "{text}");
        let left = engine.claims().all().unwrap();
        let left: Vec<&str> = left.iter().map(|claim| claim.owner.id.as_str()).collect();
        assert_eq!(left, ["one"], "the other claim is released");
    });
    assert_eq!(report.finished, ["release of job/one", "release of job/two"]);
    rig.assert_untouched("after recovery");
}

#[test]
fn operations_on_the_same_device_are_recovered_one_after_another() {
    let parent = "0000:01:00.0";
    let rig = Rig::on(sim::server());
    let setup = |engine: &Engine| {
        engine.vf_counts().set(parent, 2, true).unwrap();
        claim(engine, "one", &["vf@0000:01:00.0,vlan=100"]);
        claim(engine, "two", &["vf@0000:01:00.0,vlan=200"]);
    };
    let functions = interrupted(&rig, setup, &["job/one", "job/two"], Some("job/one"));
    assert_ne!(functions[0], functions[1]);
    let report = recovered(&rig, |engine| {
        let tasks = until(engine, |tasks| {
            tasks.first().is_some_and(|task| task.state == RecoveryTaskState::Stuck)
        });
        assert_eq!(tasks.len(), 2, "{tasks:?}");
        assert_eq!(tasks[1].state, RecoveryTaskState::Queued);
        assert!(tasks[1].devices.contains(&at(parent)), "{tasks:?}");
    });
    assert_eq!(report.finished, ["release of job/one", "release of job/two"]);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn the_order_of_independent_operations_does_not_matter() {
    for last in [true, false] {
        let rig = Rig::new();
        let setup = |engine: &Engine| {
            claim(engine, "one", &[NIC]);
            claim(engine, "two", &[NVME]);
        };
        interrupted(&rig, setup, &["job/one", "job/two"], None);
        let engine = rig.open();
        let mut pick = |left: usize| if last { left - 1 } else { 0 };
        let report = engine.recover_one_by_one(&mut pick).unwrap();
        assert_eq!(report.finished.len(), 2, "{report:?}");
        assert!(engine.recovering().is_empty());
        rig.assert_untouched("after recovery");
    }
}
