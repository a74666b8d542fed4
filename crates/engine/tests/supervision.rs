//! Machines that are started without a request: with the host, and again when they end; and changes of instances.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use engine::{Blocked, ChangeInstance, ChangeMachine, CreateInstance, Engine, InstanceState};
use model::{Autostart, Code, Life, Restart, RestartChange, RestartPolicy};
use support::{Rig, wish};

/// The shortest pause before another start is 1 s.
const SOON: Duration = Duration::from_secs(20);

fn restarting(policy: RestartPolicy, max_attempts: u32) -> Life {
    let restart = Restart { policy, backoff: Duration::ZERO, max_attempts, ..Restart::default() };
    Life { restart, autostart: None }
}

fn autostart(order: u32) -> Life {
    let autostart = Autostart { order, ..Autostart::default() };
    Life { autostart: Some(autostart), ..Life::default() }
}

fn create(engine: &Engine, name: &str, life: Life) -> engine::Instance {
    engine.instances().create(CreateInstance { life, ..wish(name, &[]) }).unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends all machines, as a restart of the host does.
fn reboot(rig: &Rig, engine: Engine) -> Engine {
    drop(engine);
    rig.host.reboot();
    rig.launcher.reboot();
    rig.open_recovered().0
}

fn state(engine: &Engine, name: &str) -> InstanceState {
    engine.instances().find(name).unwrap().state
}

#[test]
fn a_machine_that_failed_is_started_again() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().supervise();
    let machine = create(&engine, "a", restarting(RestartPolicy::OnFailure, 0));
    rig.launcher.exit(machine.id, 1);
    until("the restart", || {
        let now = engine.instances().find("a").unwrap();
        now.state == InstanceState::Running && now.started_at != machine.started_at
    });
    assert_eq!(engine.instances().restarts(machine.id).unwrap().attempts, 1);
    rig.launcher.exit(machine.id, 0);
    until("the end", || state(&engine, "a") == InstanceState::Shutdown);
    assert_eq!(engine.instances().restarts(machine.id).unwrap().next, None, "it shut down well");
}

#[test]
fn there_are_as_many_attempts_as_there_may_be() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().supervise();
    let machine = create(&engine, "a", restarting(RestartPolicy::Always, 1));
    rig.launcher.refuse_next("no memory today");
    rig.launcher.exit(machine.id, 0);
    let blocked = || engine.instances().restarts(machine.id).and_then(|one| one.blocked);
    until("the last attempt", || blocked() == Some(Blocked::TooMany));
    let now = engine.instances().find("a").unwrap();
    assert_eq!(now.state, InstanceState::Shutdown, "it was not stopped on request");
    assert!(now.state_error.unwrap().contains("no memory today"));
    engine.instances().start("a").unwrap();
    assert_eq!(engine.instances().restarts(machine.id), None, "a request begins anew");
}

#[test]
fn a_stop_on_request_cancels_the_next_attempt() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().supervise();
    let machine = create(&engine, "a", restarting(RestartPolicy::Always, 0));
    rig.launcher.exit(machine.id, 0);
    until("the end", || state(&engine, "a") == InstanceState::Shutdown);
    engine.instances().stop("a").unwrap();
    let restarts = engine.instances().restarts(machine.id).unwrap();
    assert_eq!((restarts.next, restarts.blocked), (None, Some(Blocked::Stopped)));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(state(&engine, "a"), InstanceState::Stopped);
}

#[test]
fn without_a_daemon_nothing_is_started() {
    let rig = Rig::ready();
    let engine = rig.open();
    let machine = create(&engine, "a", restarting(RestartPolicy::Always, 0));
    rig.launcher.exit(machine.id, 1);
    until("the end", || state(&engine, "a") == InstanceState::Shutdown);
    assert_eq!(engine.instances().restarts(machine.id), None);
    // A daemon that starts later finds it.
    engine.instances().supervise();
    until("the restart", || state(&engine, "a") == InstanceState::Running);
}

#[test]
fn machines_start_with_the_host_in_their_order() {
    let rig = Rig::ready();
    let engine = rig.open();
    for (name, life) in
        [("web", autostart(20)), ("db", autostart(10)), ("by-hand", Life::default())]
    {
        create(&engine, name, life);
    }
    engine.instances().stop("db").unwrap();
    engine.instances().supervise();
    assert_eq!(state(&engine, "db"), InstanceState::Stopped, "the host was not started again");
    let engine = reboot(&rig, engine);
    assert_ne!(state(&engine, "web"), InstanceState::Running);
    engine.instances().supervise();
    let started = |name: &str| engine.instances().find(name).unwrap().started_at.unwrap();
    assert_eq!(["web", "db"].map(|name| state(&engine, name)), [InstanceState::Running; 2]);
    assert!(started("db") < started("web"));
    assert_ne!(state(&engine, "by-hand"), InstanceState::Running);
    // Another start of the daemon is no start of the host.
    engine.instances().stop("web").unwrap();
    drop(engine);
    let engine = rig.open();
    engine.instances().supervise();
    assert_eq!(state(&engine, "web"), InstanceState::Stopped);
}

#[test]
fn a_machine_that_cannot_start_with_the_host_says_why_and_delays_no_other() {
    let rig = Rig::ready();
    let engine = rig.open();
    create(&engine, "a", autostart(0));
    create(&engine, "b", autostart(1));
    let engine = reboot(&rig, engine);
    rig.launcher.refuse_next("no memory today");
    engine.instances().supervise();
    let failed = engine.instances().find("a").unwrap();
    assert_eq!(failed.state, InstanceState::Stopped);
    assert!(failed.state_error.unwrap().contains("no memory today"));
    assert_eq!(state(&engine, "b"), InstanceState::Running);
}

#[test]
fn processors_and_memory_change_while_it_is_stopped() {
    let rig = Rig::ready();
    let engine = rig.open();
    create(&engine, "a", Life::default());
    let machine =
        ChangeMachine { vcpus: Some(4), memory: Some(2 << 30), ..ChangeMachine::default() };
    let larger = ChangeInstance { machine, ..ChangeInstance::default() };
    let refused = engine.instances().change("a", larger.clone()).unwrap_err();
    assert_eq!(refused.code, Code::InvalidState);
    let life = restarting(RestartPolicy::Always, 3).restart;
    let restart = RestartChange {
        policy: Some(life.policy),
        backoff: Some(life.backoff),
        max_attempts: Some(3),
        stable_after: None,
    };
    let change = ChangeInstance { restart: Some(restart), ..ChangeInstance::default() };
    engine.instances().change("a", change).unwrap();
    engine.instances().stop("a").unwrap();
    engine.instances().change("a", larger).unwrap();
    let machine = ChangeMachine { vcpus: Some(0), ..ChangeMachine::default() };
    let none = ChangeInstance { machine, ..ChangeInstance::default() };
    assert_eq!(engine.instances().change("a", none).unwrap_err().code, Code::InvalidRequest);
    drop(engine);
    let kept = rig.open().instances().find("a").unwrap();
    assert_eq!((kept.vcpus, kept.memory, kept.options.life.restart), (4, 2 << 30, life));
}

#[test]
fn failed_starts_are_counted_however_long_it_ran_before() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().supervise();
    let restart = Restart {
        policy: RestartPolicy::Always,
        backoff: Duration::ZERO,
        max_attempts: 2,
        stable_after: Duration::ZERO,
    };
    let machine = create(&engine, "a", Life { restart, autostart: None });
    rig.launcher.set_missing(Some("no emulator today"));
    rig.launcher.exit(machine.id, 1);
    let blocked = || engine.instances().restarts(machine.id).and_then(|one| one.blocked);
    until("the last attempt", || blocked() == Some(Blocked::TooMany));
    let now = engine.instances().find("a").unwrap();
    assert!(now.state_error.unwrap().contains("no emulator today"));
    // Another policy begins anew.
    rig.launcher.set_missing(None);
    let change = RestartChange { max_attempts: Some(0), ..RestartChange::default() };
    let change = ChangeInstance { restart: Some(change), ..ChangeInstance::default() };
    engine.instances().change("a", change).unwrap();
    until("the restart", || state(&engine, "a") == InstanceState::Running);
}

#[test]
fn a_machine_that_ended_before_the_host_was_started_stays_ended() {
    let rig = Rig::ready();
    let engine = rig.open();
    let machine = create(&engine, "a", restarting(RestartPolicy::Always, 0));
    rig.launcher.exit(machine.id, 0);
    until("the end", || state(&engine, "a") == InstanceState::Shutdown);
    let engine = reboot(&rig, engine);
    engine.instances().supervise();
    assert_eq!(engine.instances().restarts(machine.id), None);
}

#[test]
fn a_start_that_the_daemons_end_interrupts_is_made_by_the_next_daemon() {
    let rig = Rig::ready();
    let engine = rig.open();
    create(&engine, "a", restarting(RestartPolicy::Always, 0));
    create(&engine, "b", Life::default());
    for name in ["a", "b"] {
        engine.instances().stop(name).unwrap();
    }
    drop(engine);
    for name in ["a", "b"] {
        let survived = rig.killed_at(2, |engine| drop(engine.instances().start(name)));
        assert!(!survived, "the start of {name} was complete");
    }
    let engine = rig.open_recovered().0;
    engine.instances().supervise();
    until("the start", || state(&engine, "a") == InstanceState::Running);
    assert_eq!(state(&engine, "b"), InstanceState::Stopped, "it has no policy");
}
