//! The daemon is killed at every boundary of the journal, and again during recovery.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;

use engine::{
    ClaimRequest, CreateInstance, CreateVolume, DiskWish, Engine, InstanceState, NewVolume,
    WantedContent,
};
use model::{Address, ClaimState, DiskFormat, Holder, Host as _, Step};
use rusqlite::OptionalExtension as _;
use support::{Rig, request, wish};

const DEVICES: &[&str] = &["gpu", "nic", "nvme"];

/// Checks that the host, the machines and the records agree.
fn assert_consistent(rig: &Rig, engine: &Engine, why: &str) {
    let instances = engine.instances().all(&BTreeMap::new()).unwrap();
    let running = rig.launcher.running();
    for instance in &instances {
        assert_eq!(
            running.contains(&instance.id),
            matches!(instance.state, InstanceState::Running | InstanceState::Paused),
            "{why}: {instance:?}"
        );
    }
    for id in running.iter().chain(&rig.launcher.files()) {
        assert!(instances.iter().any(|i| i.id == *id), "{why}: {id} belongs to no instance");
    }
    let volumes = engine.volumes().by_id().unwrap();
    for volume in volumes.values() {
        let owned = volume.made_with.is_none_or(|id| instances.iter().any(|i| i.id == id));
        assert!(owned, "{why}: {volume:?} outlasted its instance");
    }
    let dirs = std::fs::read_dir(rig.config().state_dir.join("volumes"));
    assert_eq!(dirs.map_or(0, Iterator::count), volumes.len(), "{why}: files of volumes");
    let claims = engine.claims().all().unwrap();
    for claim in &claims {
        assert!(
            instances.iter().any(|instance| instance.id.to_string() == claim.owner.id),
            "{why}: a claim without an owner: {claim:?}"
        );
        assert_ne!(claim.state, ClaimState::Wedged, "{why}");
    }
    assert!(
        engine.journal(5).unwrap().iter().all(|op| op.state != engine::OperationState::Open),
        "{why}"
    );
    if claims.iter().all(|claim| claim.state == ClaimState::Reserved) {
        assert_eq!(rig.host.snapshot(), rig.before, "{why}");
    }
}

/// Deletes everything, then creates and deletes an instance again.
fn assert_usable(rig: &Rig, engine: &Engine, why: &str) {
    for instance in engine.instances().all(&BTreeMap::new()).unwrap() {
        engine.instances().delete(&instance.name).unwrap();
    }
    rig.assert_untouched(why);
    engine.instances().create(wish("vm", DEVICES)).unwrap();
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched(why);
}

fn disk(content: WantedContent) -> DiskWish {
    DiskWish { content, bus: None, serial: None, read_only: false, mount_path: None }
}

/// A machine with a disk of its own and a volume.
fn with_disks() -> CreateInstance {
    let file = NewVolume { size: 1 << 20, format: DiskFormat::Raw, allocate: false };
    let disks = vec![disk(WantedContent::New(file)), disk(WantedContent::Volume("data".into()))];
    CreateInstance { disks, ..wish("vm", DEVICES) }
}

fn life(engine: &Engine) {
    let file = NewVolume { size: 1 << 20, format: DiskFormat::Raw, allocate: false };
    let data = CreateVolume { name: "data".into(), id: None, file, tags: BTreeMap::new() };
    engine.volumes().create(data).unwrap();
    engine.instances().create(with_disks()).unwrap();
    let amd = engine::DeviceWish::Registered("amd".into());
    engine.instances().attach_device("vm", &amd).unwrap();
    engine.instances().detach_device("vm", "nic", std::time::Duration::ZERO).unwrap();
    engine.instances().stop("vm").unwrap();
    engine.instances().start("vm").unwrap();
    engine.instances().pause("vm").unwrap();
    engine.instances().delete("vm").unwrap();
}

#[test]
fn killed_at_any_boundary_of_a_life_nothing_leaks() {
    let mut boundary = 0;
    loop {
        let rig = Rig::ready();
        if rig.killed_at(boundary, life) {
            break;
        }
        let why = format!("killed at boundary {boundary}");
        let (engine, _) = rig.open_recovered();
        assert_consistent(&rig, &engine, &why);
        assert_usable(&rig, &engine, &why);
        boundary += 1;
    }
    assert!(boundary > 100, "only {boundary} boundaries");
}

#[test]
fn killed_again_at_any_boundary_of_recovery_the_next_one_completes() {
    for first in (5..).step_by(17) {
        for second in (0..).step_by(2) {
            let rig = Rig::ready();
            if rig.killed_at(first, life) {
                return;
            }
            let why = format!("killed at boundary {first}, and {second} of recovery");
            let lived = rig.killed_at(second, |engine| drop(engine.recover().unwrap()));
            let (engine, _) = rig.open_recovered();
            assert_consistent(&rig, &engine, &why);
            if lived {
                assert_usable(&rig, &engine, &why);
                break;
            }
        }
    }
}

#[test]
fn killed_at_any_boundary_with_a_restart_of_the_host_before_recovery() {
    for boundary in (0..).step_by(3) {
        let rig = Rig::ready();
        if rig.killed_at(boundary, life) {
            break;
        }
        rig.host.reboot();
        rig.launcher.reboot();
        let why = format!("killed at boundary {boundary}, then restarted");
        let (engine, _) = rig.open_recovered();
        assert_eq!(rig.host.snapshot(), rig.before, "{why}");
        assert_consistent(&rig, &engine, &why);
        assert_usable(&rig, &engine, &why);
    }
}

#[test]
fn devices_of_a_machine_that_cannot_be_proven_gone_are_not_touched() {
    for boundary in 0.. {
        let rig = Rig::ready();
        rig.killed_at(boundary, |engine| drop(engine.instances().create(wish("vm", DEVICES))));
        let Some(id) = rig.launcher.running().first().copied() else { continue };
        let during = rig.host.snapshot();
        rig.launcher.set_unknown(id, true);
        let (engine, report) = rig.open_recovered();
        assert!(!report.notes.is_empty());
        assert_eq!(engine.instances().find("vm").unwrap().state, InstanceState::Unknown);
        assert_eq!(rig.host.snapshot(), during);
        rig.launcher.set_unknown(id, false);
        engine.instances().delete("vm").unwrap();
        rig.assert_untouched("after delete");
        return;
    }
}

#[test]
fn a_binding_by_another_tool_in_a_new_boot_is_not_undone() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    drop(engine);
    rig.host.reboot();
    rig.launcher.reboot();
    let address = support::NIC.parse().unwrap();
    let vfio: String = "vfio-pci".into();
    for step in [
        Step::LoadModule { module: "vfio_pci".into() },
        Step::SetOverride { address, from: None, to: Some(vfio.clone()) },
        Step::Unbind { address, driver: "e1000e".into() },
        Step::Bind { address, driver: vfio },
    ] {
        rig.host.meddle(&step).unwrap();
    }
    let foreign = rig.host.snapshot();
    let (engine, _) = rig.open_recovered();
    engine.instances().delete("vm").unwrap();
    assert_eq!(rig.host.snapshot(), foreign);
}

#[test]
fn files_whose_record_a_power_loss_took_are_removed() {
    for boundary in 0.. {
        let rig = Rig::ready();
        rig.killed_at(boundary, |engine| drop(engine.instances().create(wish("vm", &[]))));
        if rig.launcher.files().is_empty() {
            continue;
        }
        rig.host.reboot();
        rig.launcher.reboot();
        rig.sqlite().execute("DELETE FROM steps", []).unwrap();
        let (engine, _) = rig.open_recovered();
        rig.assert_untouched("after recovery");
        assert!(engine.instances().all(&BTreeMap::new()).unwrap().is_empty());
        return;
    }
}

/// The number of planned steps in the journal, and the number of restoring steps that repeat a planned one.
fn planned_and_repeated(rig: &Rig) -> (u32, u32) {
    let count = |sql: &str| rig.sqlite().query_row(sql, [], |row| row.get(0)).unwrap();
    let planned = count("SELECT COUNT(*) FROM steps WHERE restoring = 0");
    let repeated = count(
        "SELECT COUNT(*) FROM steps WHERE restoring = 1
         AND action IN (SELECT action FROM steps WHERE restoring = 0)",
    );
    (planned, repeated)
}

/// Repeating could hit a new process with the evicted one's pid, or reset a function that a machine uses.
#[test]
fn recovery_repeats_no_step_of_a_plan() {
    let neighbours = ["0000:11:00.0", "0000:11:01.0"];
    let address: Address = neighbours[0].parse().unwrap();
    let user = Holder {
        address,
        kind: model::HolderKind::Process,
        pid: Some(4711),
        started: Some(1),
        program: Some("dpdk".into()),
        user: "dpdk (pid 4711)".into(),
        by: "/dev/uio0".into(),
        mdev: None,
        interface: None,
    };
    let wanted = ClaimRequest { evict: true, reset: true, ..request("one", &neighbours) };
    let (mut asked_only, mut reset_only) = (false, false);
    for boundary in 0.. {
        let rig = Rig::on(sim::gpus());
        rig.host.hold(user.clone());
        if rig.killed_at(boundary, |engine| drop(engine.claims().claim(&wanted).unwrap())) {
            break;
        }
        let why = format!("killed at boundary {boundary}");
        let (planned, _) = planned_and_repeated(&rig);
        let (users, resets) = (rig.host.holders(&[address]).unwrap(), rig.host.resets().len());
        let last: Option<String> = rig
            .sqlite()
            .query_row("SELECT action FROM steps WHERE state = 'intended'", [], |row| row.get(0))
            .optional()
            .unwrap();
        let last = last.unwrap_or_default();
        asked_only |= last.contains("\"evict\"") && !users.is_empty();
        reset_only |= last.contains("\"reset\"") && resets == 0;
        rig.open_recovered();
        assert_eq!(planned_and_repeated(&rig), (planned, 0), "{why}");
        assert_eq!(rig.host.holders(&[address]).unwrap(), users, "{why}: it was evicted again");
        assert_eq!(rig.host.resets().len(), resets, "{why}: it was reset again");
    }
    assert!(asked_only && reset_only, "no crash came right before one of the steps");
}
