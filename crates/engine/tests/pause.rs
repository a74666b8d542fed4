//! Paused instances, guests that their VMM has stopped, and what machines use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{ChangeInstance, ChangeMachine, Engine, InstanceState};
use model::{
    Code, DiskUsage, Execution, Halt, Launcher, Restart, RestartChange, RestartPolicy, Usage,
};
use support::{Rig, wish};

const PATIENCE: Duration = Duration::from_secs(20);

fn state(engine: &Engine) -> InstanceState {
    engine.instances().find("vm").unwrap().state
}

#[test]
fn pausing_and_resuming_are_idempotent_and_keep_the_devices() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &["gpu"])).unwrap().id;
    let during = rig.host.snapshot();
    for _ in 0..2 {
        let paused = engine.instances().pause("vm").unwrap();
        assert_eq!((paused.state, paused.pid.is_some()), (InstanceState::Paused, true));
        assert_eq!(rig.launcher.execution(id).unwrap(), Execution::Paused);
        let seen = engine.instances().wait("vm", InstanceState::Paused, PATIENCE).unwrap();
        assert_eq!(seen.state, InstanceState::Paused);
        assert_eq!(engine.instances().halted(&paused), None);
    }
    for _ in 0..2 {
        let resumed = engine.instances().resume("vm").unwrap();
        assert_eq!(resumed.state, InstanceState::Running);
        assert_eq!(rig.launcher.execution(id).unwrap(), Execution::Running);
    }
    assert_eq!(rig.host.snapshot(), during);
}

#[test]
fn what_does_not_run_is_neither_paused_nor_resumed() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    assert_eq!(engine.instances().pause("vm").unwrap_err().code, Code::NotFound);
    engine.instances().create(wish("vm", &[])).unwrap();
    engine.instances().stop("vm").unwrap();
    for refused in [engine.instances().pause("vm"), engine.instances().resume("vm")] {
        let refusal = refused.unwrap_err();
        assert_eq!(refusal.code, Code::InvalidState);
        assert!(refusal.remedy.contains("handover instance start vm"), "{refusal:?}");
    }
    assert_eq!(state(&engine), InstanceState::Stopped);
}

#[test]
fn a_paused_instance_is_stopped_deleted_and_started_like_a_running_one() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap();
    engine.instances().pause("vm").unwrap();
    let refusal = engine.instances().start("vm").unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
    assert!(refusal.remedy.contains("handover instance resume vm"), "{refusal:?}");
    let machine = ChangeMachine { vcpus: Some(4), ..ChangeMachine::default() };
    let larger = ChangeInstance { machine, ..ChangeInstance::default() };
    assert_eq!(engine.instances().change("vm", larger).unwrap_err().code, Code::InvalidState);
    engine.instances().with_console("vm").unwrap();
    let stopped = engine.instances().stop("vm").unwrap();
    assert_eq!((stopped.state, stopped.exit_code), (InstanceState::Stopped, Some(0)));
    assert_eq!(engine.instances().start("vm").unwrap().state, InstanceState::Running);
    engine.instances().pause("vm").unwrap();
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn the_next_daemon_asks_the_vmm_and_does_not_trust_the_record() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &["gpu"])).unwrap().id;
    engine.instances().pause("vm").unwrap();
    drop(engine);
    let (engine, report) = rig.open_recovered();
    assert_eq!((state(&engine), report.adopted), (InstanceState::Paused, vec!["vm".to_owned()]));
    engine.reconcile().unwrap();
    assert_eq!(state(&engine), InstanceState::Paused);
    drop(engine);
    // The daemon died between what the VMM did and the record.
    rig.launcher.resume(id).unwrap();
    let (engine, _) = rig.open_recovered();
    assert_eq!(state(&engine), InstanceState::Running);
    rig.launcher.pause(id).unwrap();
    let shown = engine.instances().find("vm").unwrap();
    let words = engine.instances().halted(&shown).unwrap();
    assert!(words.contains("handover instance resume vm"), "{words}");
    engine.reconcile().unwrap();
    assert_eq!(state(&engine), InstanceState::Paused);
    drop(engine);
    // A VMM that does not answer is as it was.
    rig.launcher.set_silent(true);
    let (engine, _) = rig.open_recovered();
    assert_eq!(state(&engine), InstanceState::Paused);
    rig.launcher.set_silent(false);
    rig.launcher.exit(id, 0);
    let ended = engine.instances().wait("vm", InstanceState::Shutdown, PATIENCE).unwrap();
    assert_eq!(ended.state, InstanceState::Shutdown, "a paused machine is watched");
}

#[test]
fn a_paused_machine_that_was_unknown_is_still_paused() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &[])).unwrap().id;
    engine.instances().pause("vm").unwrap();
    drop(engine);
    rig.launcher.set_unknown(id, true);
    let (engine, _) = rig.open_recovered();
    assert_eq!(state(&engine), InstanceState::Unknown);
    assert_eq!(engine.instances().resume("vm").unwrap_err().code, Code::InvalidState);
    assert_eq!(engine.instances().usage("vm").unwrap_err().code, Code::InvalidState);
    rig.launcher.set_unknown(id, false);
    engine.reconcile().unwrap();
    assert_eq!(state(&engine), InstanceState::Paused);
    assert_eq!(engine.instances().resume("vm").unwrap().state, InstanceState::Running);
}

#[test]
fn a_guest_is_not_left_paused_if_that_cannot_be_recorded() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &[])).unwrap().id;
    let beside = rig.sqlite();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON instances
        BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    beside.execute_batch(full).unwrap();
    assert_eq!(engine.instances().pause("vm").unwrap_err().code, Code::StateUnusable);
    assert_eq!(rig.launcher.execution(id).unwrap(), Execution::Running);
    beside.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(state(&engine), InstanceState::Running);
}

#[test]
fn a_guest_that_its_vmm_has_stopped_says_why_and_what_to_do() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instances().create(wish("vm", &["gpu"])).unwrap();
    let words = |halt: Halt| {
        rig.launcher.set_halted(instance.id, Some(halt));
        engine.instances().halted(&instance).unwrap()
    };
    for (halt, what) in [
        (Halt::DiskFull, "no space left"),
        (Halt::DiskFailed, "could not read or write its disk"),
        (Halt::Asleep, "sleeps"),
        (Halt::Other("colo".into()), "status colo"),
    ] {
        let words = words(halt);
        assert!(words.contains(what) && words.contains("instance resume vm"), "{words}");
    }
    for halt in [Halt::InternalError, Halt::Crashed, Halt::ShutDown] {
        let words = words(halt);
        assert!(words.contains("handover instance restart vm"), "{words}");
        assert_eq!(engine.instances().resume("vm").unwrap_err().code, Code::InvalidState);
    }
    rig.launcher.set_halted(instance.id, Some(Halt::DiskFull));
    assert_eq!(engine.instances().pause("vm").unwrap_err().code, Code::InsufficientResources);
    let refusal = engine.instances().resume("vm").unwrap_err();
    assert_eq!(refusal.code, Code::InsufficientResources);
    assert!(refusal.remedy.contains("df "), "{refusal:?}");
    assert_eq!(state(&engine), InstanceState::Running);
    rig.launcher.set_halted(instance.id, None);
    assert_eq!(engine.instances().resume("vm").unwrap().state, InstanceState::Running);
    assert_eq!(engine.instances().halted(&instance), None);
    rig.launcher.set_silent(true);
    let words = engine.instances().halted(&instance).unwrap();
    assert!(words.contains("within 2 s"), "{words}");
    assert_eq!(engine.instances().pause("vm").unwrap_err().code, Code::StepFailed);
}

#[test]
fn a_paused_machine_that_fails_is_started_again_as_its_policy_says() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().supervise();
    let id = engine.instances().create(wish("vm", &[])).unwrap().id;
    let restart = RestartChange {
        policy: Some(RestartPolicy::OnFailure),
        backoff: Some(Duration::from_secs(1)),
        ..RestartChange::default()
    };
    let change = ChangeInstance { restart: Some(restart), ..ChangeInstance::default() };
    engine.instances().pause("vm").unwrap();
    let changed = engine.instances().change("vm", change).unwrap().instance;
    assert_eq!(changed.state, InstanceState::Paused);
    assert_ne!(changed.options.life.restart, Restart::default());
    rig.launcher.exit(id, 1);
    let again = engine.instances().wait("vm", InstanceState::Running, PATIENCE).unwrap();
    assert_eq!(again.state, InstanceState::Running);
    assert_eq!(engine.instances().restarts(id).map(|restarts| restarts.attempts), Some(1));
}

#[test]
fn what_a_machine_uses_is_told_while_it_runs() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &[])).unwrap().id;
    let usage = Usage {
        cpu: Duration::from_millis(1500),
        resident: 1 << 20,
        address_space: 1 << 30,
        disks: Some(DiskUsage { read: 7, written: 8 }),
        network: None,
    };
    rig.launcher.set_usage(id, usage);
    let told = || engine.instances().usage("vm").unwrap().1;
    assert_eq!(told(), Some(usage));
    engine.instances().pause("vm").unwrap();
    assert_eq!(told(), Some(usage));
    rig.launcher.set_silent(true);
    assert_eq!(engine.instances().usage("vm").unwrap_err().code, Code::Internal);
    rig.launcher.set_silent(false);
    engine.instances().stop("vm").unwrap();
    assert_eq!(told(), None);
    assert_eq!(engine.instances().usage("none").unwrap_err().code, Code::NotFound);
    assert_eq!(engine.instances().all(&BTreeMap::new()).unwrap().len(), 1);
}
