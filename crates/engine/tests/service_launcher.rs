//! Machines whose processes belong to a service such as libvirt: the engine sees their runs, not their processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use engine::InstanceState;
use support::{GPU, Rig, wish};

fn rig() -> Rig {
    let rig = Rig::ready();
    rig.launcher.set_service();
    rig
}

#[test]
fn a_machine_of_a_service_goes_from_create_to_delete() {
    let rig = rig();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instances().create(wish("vm", &["gpu"])).unwrap();
    assert_eq!((instance.state, instance.pid), (InstanceState::Running, None));
    let stopped = engine.instances().stop("vm").unwrap();
    assert_eq!((stopped.state, stopped.exit_code), (InstanceState::Stopped, Some(0)));
    engine.instances().start("vm").unwrap();
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn a_machine_of_a_service_is_adopted_by_the_next_daemon_and_its_end_is_seen() {
    let rig = rig();
    let engine = rig.open();
    let id = engine.instances().create(wish("vm", &["gpu"])).unwrap().id;
    drop(engine);
    let stored: String =
        rig.sqlite().query_row("SELECT machine FROM instances", [], |row| row.get(0)).unwrap();
    assert!(stored.contains(r#""run":"1""#) && !stored.contains("pid"), "{stored}");
    let (engine, report) = rig.open_recovered();
    assert_eq!(report.adopted, ["vm"]);
    assert_eq!(engine.instances().find("vm").unwrap().state, InstanceState::Running);
    rig.launcher.exit(id, 3);
    let patience = Duration::from_secs(20);
    let ended = engine.instances().wait("vm", InstanceState::Shutdown, patience).unwrap();
    assert_eq!((ended.pid, ended.exit_code), (None, Some(3)));
}

#[test]
fn a_create_that_is_killed_anywhere_leaves_no_machine_of_a_service() {
    for boundary in 0.. {
        let rig = rig();
        let lived = rig.killed_at(boundary, |engine| {
            engine.instances().create(wish("vm", &["gpu"])).unwrap();
        });
        if lived {
            assert!(boundary > 5, "{boundary} boundaries");
            return;
        }
        let (engine, _) = rig.open_recovered();
        match engine.instances().find("vm") {
            Ok(instance) => assert_eq!(instance.state, InstanceState::Running, "{boundary}"),
            Err(_) => rig.assert_untouched(&format!("{GPU}: killed at {boundary}")),
        }
    }
}
