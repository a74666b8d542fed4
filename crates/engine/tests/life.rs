//! The life cycle of instances on a simulated host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{AvailableFilter, InstanceState, OperationKind, OperationState, RecoveryReport};
use model::{ClaimState, Code, Role};
use support::{AMD, GPU, GPU_AUDIO, NIC, NVME, Rig, wish};

#[test]
fn a_guest_that_was_ended_by_force_is_told() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &[])).unwrap().id;
    let (_, notes) = engine.instances().stop_within("vm", None).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    for (grace, is_told) in [(Duration::from_secs(7), true), (Duration::ZERO, false)] {
        engine.instances().start("vm").unwrap();
        rig.launcher.set_stubborn(id, true);
        let (stopped, notes) = engine.instances().stop_within("vm", Some(grace)).unwrap();
        assert_eq!(stopped.state, InstanceState::Stopped);
        assert_eq!(notes.len(), usize::from(is_told), "{notes:?}");
        assert!(notes.iter().all(|note| note.contains("within 7 s")), "{notes:?}");
    }
}

#[test]
fn create_takes_devices_and_delete_restores_them() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instances().create(wish("vm", &["gpu", "nic", "nvme"])).unwrap();
    assert_eq!(instance.state, InstanceState::Running);
    assert_eq!(instance.uid, 200_000);
    assert!(instance.pid.is_some() && instance.started_at.is_some());
    let device = engine.devices().find("gpu").unwrap();
    assert!(device.bound_to_vfio);
    assert_eq!(device.attached_to, Some(instance.id));

    let claims = engine.claims().all().unwrap();
    assert!(claims.iter().all(|claim| claim.state == ClaimState::Prepared));
    let gpu = claims.iter().find(|claim| claim.head() == Some(GPU.parse().unwrap())).unwrap();
    let roles: Vec<_> =
        gpu.members().map(|member| (member.address.to_string(), member.role)).collect();
    assert_eq!(
        roles,
        [
            ("0000:00:01.0".to_owned(), Role::Bystander),
            (GPU.to_owned(), Role::Guest),
            (GPU_AUDIO.to_owned(), Role::Guest)
        ]
    );
    assert!(gpu.members().all(|member| member.as_found.is_some()));

    let stopped = engine.instances().stop("vm").unwrap();
    assert_eq!((stopped.state, stopped.pid), (InstanceState::Stopped, None));
    assert!(
        engine.devices().find("gpu").unwrap().bound_to_vfio,
        "a stopped instance keeps its devices"
    );
    let started = engine.instances().start("vm").unwrap();
    assert_eq!(started.state, InstanceState::Running);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
    assert!(engine.claims().all().unwrap().is_empty());
    assert_eq!(engine.instances().find("vm").unwrap_err().code, Code::NotFound);
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
}

#[test]
fn available_functions_have_an_iommu_group_and_no_claim() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let listed = |filter: &AvailableFilter| {
        let devices = engine.devices().available(filter).unwrap();
        devices.into_iter().map(|device| device.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&AvailableFilter::Gpus), [GPU, GPU_AUDIO, AMD]);
    assert_eq!(listed(&AvailableFilter::All).len(), 6, "all but the bridge");
    assert_eq!(listed(&AvailableFilter::Kind(model::Kind::Nvme)), [NVME]);
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
    assert_eq!(listed(&AvailableFilter::Gpus), [AMD]);
}

#[test]
fn a_guests_shutdown_is_recorded() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instances().create(wish("vm", &["nic"])).unwrap();
    rig.launcher.exit(instance.id, 3);
    let patience = Duration::from_secs(20);
    let seen = engine.instances().wait("vm", InstanceState::Shutdown, patience).unwrap();
    assert_eq!((seen.state, seen.exit_code), (InstanceState::Shutdown, Some(3)));
    let again = engine.instances().start("vm").unwrap();
    assert_eq!((again.state, again.exit_code), (InstanceState::Running, None));
}

#[test]
fn waiting_ends_at_the_timeout() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &[])).unwrap();
    let seen = engine.instances().wait("vm", InstanceState::Stopped, Duration::ZERO).unwrap();
    assert_eq!(seen.state, InstanceState::Running);
}

#[test]
fn machines_outlive_the_daemon_and_are_watched_again() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instances().create(wish("vm", &["gpu"])).unwrap();
    let during = rig.host.snapshot();
    drop(engine);
    let (engine, report) = rig.open_recovered();
    assert_eq!(report.adopted, ["vm"]);
    assert_eq!(engine.reconcile().unwrap(), RecoveryReport::default(), "it is watched already");
    assert_eq!(rig.host.snapshot(), during, "the machine is not disturbed");
    assert_eq!(engine.instances().find("vm").unwrap().pid, instance.pid);
    rig.launcher.exit(instance.id, 0);
    let patience = Duration::from_secs(20);
    let seen = engine.instances().wait("vm", InstanceState::Shutdown, patience).unwrap();
    assert_eq!(seen.state, InstanceState::Shutdown);
}

#[test]
fn the_end_of_a_machine_is_recorded_as_soon_as_the_journal_can_be_written() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instances().create(wish("vm", &["gpu"])).unwrap();
    let beside = rig.sqlite();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON instances
        BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    beside.execute_batch(full).unwrap();
    rig.launcher.exit(instance.id, 7);
    let tried = Duration::from_secs(1);
    let early = engine.instances().wait("vm", InstanceState::Shutdown, tried).unwrap();
    assert_eq!(early.state, InstanceState::Running);
    beside.execute_batch("DROP TRIGGER full").unwrap();
    let patience = Duration::from_secs(20);
    let ended = engine.instances().wait("vm", InstanceState::Shutdown, patience).unwrap();
    assert_eq!((ended.state, ended.exit_code), (InstanceState::Shutdown, Some(7)));
}

#[test]
fn a_machine_that_ended_without_a_daemon_is_shut_down() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instances().create(wish("vm", &["gpu"])).unwrap();
    drop(engine);
    rig.launcher.exit(instance.id, 0);
    let (engine, _) = rig.open_recovered();
    assert_eq!(engine.instances().find("vm").unwrap().state, InstanceState::Shutdown);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn an_unknown_machine_is_never_treated_as_gone() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instances().create(wish("vm", &["gpu"])).unwrap();
    let during = rig.host.snapshot();
    drop(engine);
    rig.launcher.set_unknown(instance.id, true);
    let (engine, report) = rig.open_recovered();
    assert_eq!(report.notes.len(), 1);
    assert_eq!(engine.instances().find("vm").unwrap().state, InstanceState::Unknown);
    assert_eq!(engine.instances().delete("vm").unwrap_err().code, Code::InvalidState);
    assert_eq!(engine.instances().stop("vm").unwrap_err().code, Code::InvalidState);
    assert_eq!(rig.host.snapshot(), during, "its devices are not touched");
    rig.launcher.set_unknown(instance.id, false);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn after_a_restart_of_the_host_instances_are_stopped_and_can_be_started() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap();
    drop(engine);
    rig.host.reboot();
    rig.launcher.reboot();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instances().find("vm").unwrap();
    assert_eq!(instance.state, InstanceState::Stopped);
    assert_eq!(instance.state_error.as_deref(), Some("the host was restarted"));
    assert!(engine.claims().all().unwrap().iter().all(|claim| claim.state == ClaimState::Reserved));
    assert_eq!(rig.host.snapshot(), rig.before, "an earlier boot's steps are void, never undone");
    engine.instances().start("vm").unwrap();
    assert!(engine.devices().find("gpu").unwrap().bound_to_vfio);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn another_card_at_the_address_is_refused() {
    let rig = Rig::ready();
    rig.host.replace_card(GPU.parse().unwrap(), "00-00-00-ff-fe-00-00-01");
    let (engine, _) = rig.open_recovered();
    // The registration has no serial number, so it cannot distinguish this card.
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
    engine.instances().stop("vm").unwrap();
    drop(engine);
    rig.host.reboot();
    rig.launcher.reboot();
    rig.host.replace_card(GPU.parse().unwrap(), "00-00-00-ff-fe-00-00-02");
    let (engine, _) = rig.open_recovered();
    assert_eq!(engine.instances().start("vm").unwrap_err().code, Code::FingerprintChanged);
    assert_eq!(rig.host.snapshot(), rig.before);
    assert_eq!(engine.instances().find("vm").unwrap().state, InstanceState::Stopped);
    engine.instances().delete("vm").unwrap();
}

#[test]
fn resources_count_what_instances_have() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
    let resources = engine.resources().unwrap();
    assert_eq!((resources.cpu.capacity, resources.cpu.allocated), (8, 2));
    assert_eq!((resources.memory.capacity, resources.memory.allocated), (16 << 30, 1 << 30));
    let used = resources.disk_use;
    assert!((1..1 << 20).contains(&used.images), "{used:?}");
    assert_eq!((used.layers, used.volumes), (0, 0));
    assert_eq!(resources.disk.allocated, used.images + used.overlays);
    assert!(resources.disk.capacity > 0);
    let gpu = |name: &str, address, available| engine::WholeGpu {
        name: name.into(),
        address: support::at(address),
        available,
    };
    let gpus = [gpu("gpu", "0000:01:00.0", false), gpu("amd", "0000:02:00.0", true)];
    assert_eq!((resources.gpus.as_slice(), &resources.vgpus), (gpus.as_slice(), &None));
    // Also those that are not registered.
    engine.devices().delete("amd").unwrap();
    let unregistered = gpu("pci-0000-02-00-0", "0000:02:00.0", true);
    assert_eq!(engine.resources().unwrap().gpus[1], unregistered);
}

#[test]
fn the_journal_lists_operations_and_steps() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    let journal = engine.journal(10).unwrap();
    assert_eq!((journal[0].kind, journal[0].state), (OperationKind::Create, OperationState::Done));
    let steps: Vec<_> = journal[0].steps.iter().map(|step| step.action.describe()).collect();
    assert_eq!(
        steps,
        [
            "load vfio_iommu_type1".to_owned(),
            "load vfio_pci".to_owned(),
            format!("mark {NIC} as claimed"),
            format!("set power control of {NIC} to on"),
            format!("set driver_override of {NIC} to vfio-pci"),
            format!("unbind {NIC} from e1000e"),
            format!("bind {NIC} to vfio-pci"),
            format!("set power control of {NIC} to on"),
            "let uid 200000 open IOMMU group 4".to_owned(),
            "create the machine's files".to_owned(),
            "start the machine".to_owned(),
        ]
    );
}

#[test]
fn labels_filter() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let tags = BTreeMap::from([("team".to_owned(), "ml".to_owned())]);
    engine
        .instances()
        .create(engine::CreateInstance { tags: tags.clone(), ..wish("a", &[]) })
        .unwrap();
    engine.instances().create(wish("b", &[])).unwrap();
    assert_eq!(engine.instances().all(&tags).unwrap().len(), 1);
    assert_eq!(engine.instances().all(&BTreeMap::new()).unwrap().len(), 2);
    assert!(engine.devices().all(&tags).unwrap().is_empty());
}

#[test]
fn of_concurrent_requests_for_one_device_one_succeeds() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|turn| {
                let engine = engine.clone();
                scope.spawn(move || engine.instances().create(wish(&format!("vm{turn}"), &["gpu"])))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refusal in results.into_iter().filter_map(Result::err) {
        assert_eq!(refusal.code, Code::InUse, "{refusal}");
    }
    assert_eq!(engine.claims().all().unwrap().len(), 1);
}

#[test]
fn instances_with_different_devices_are_created_concurrently() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    std::thread::scope(|scope| {
        for name in ["gpu", "amd", "nic", "nvme"] {
            let engine = engine.clone();
            scope.spawn(move || {
                for _ in 0..5 {
                    engine.instances().create(wish(name, &[name])).unwrap();
                    engine.instances().delete(name).unwrap();
                }
            });
        }
    });
    rig.assert_untouched("after all");
}
