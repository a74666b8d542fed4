//! The life of an instance on a simulated host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{AvailableFilter, InstanceState, OperationKind, OperationState};
use model::{ClaimState, Code, Role};
use support::{AMD, GPU, GPU_AUDIO, NIC, NVME, Rig, wish};

#[test]
fn from_create_to_delete_the_devices_go_and_come_back() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.create_instance(wish("vm", &["gpu", "nic", "nvme"])).unwrap();
    assert_eq!(instance.state, InstanceState::Running);
    assert_eq!(instance.uid, 200_000);
    assert!(instance.pid.is_some() && instance.started_at.is_some());
    let device = engine.device("gpu").unwrap();
    assert!(device.bound_to_vfio);
    assert_eq!(device.attached_to, Some(instance.id));

    let claims = engine.claims().unwrap();
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

    let stopped = engine.stop_instance("vm").unwrap();
    assert_eq!((stopped.state, stopped.pid), (InstanceState::Stopped, None));
    assert!(engine.device("gpu").unwrap().bound_to_vfio, "the devices stay the instance's");
    let started = engine.start_instance("vm").unwrap();
    assert_eq!(started.state, InstanceState::Running);
    engine.delete_instance("vm").unwrap();
    rig.assert_untouched("after delete");
    assert!(engine.claims().unwrap().is_empty());
    assert_eq!(engine.instance("vm").unwrap_err().code, Code::NotFound);
    engine.create_instance(wish("vm", &["gpu"])).unwrap();
}

#[test]
fn what_is_available_has_its_iommu_group_and_no_owner() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let listed = |filter: &AvailableFilter| {
        let devices = engine.available(filter).unwrap();
        devices.into_iter().map(|device| device.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&AvailableFilter::Gpus), [GPU, GPU_AUDIO, AMD]);
    assert_eq!(listed(&AvailableFilter::All).len(), 6, "all but the bridge");
    assert_eq!(listed(&AvailableFilter::Kind(model::Kind::Nvme)), [NVME]);
    engine.create_instance(wish("vm", &["gpu"])).unwrap();
    assert_eq!(listed(&AvailableFilter::Gpus), [AMD]);
}

#[test]
fn a_guest_that_shuts_down_is_seen() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.create_instance(wish("vm", &["nic"])).unwrap();
    rig.launcher.exit(instance.id, 3);
    let patience = Duration::from_secs(20);
    let seen = engine.wait_instance("vm", InstanceState::Shutdown, patience).unwrap();
    assert_eq!((seen.state, seen.exit_code), (InstanceState::Shutdown, Some(3)));
    let again = engine.start_instance("vm").unwrap();
    assert_eq!((again.state, again.exit_code), (InstanceState::Running, None));
}

#[test]
fn waiting_ends_with_the_time() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.create_instance(wish("vm", &[])).unwrap();
    let seen = engine.wait_instance("vm", InstanceState::Stopped, Duration::ZERO).unwrap();
    assert_eq!(seen.state, InstanceState::Running);
}

#[test]
fn machines_outlive_the_daemon_and_are_watched_again() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.create_instance(wish("vm", &["gpu"])).unwrap();
    let during = rig.host.snapshot();
    drop(engine);
    let (engine, report) = rig.open_recovered();
    assert_eq!(report.adopted, [instance.id]);
    assert_eq!(rig.host.snapshot(), during, "the machine is not disturbed");
    assert_eq!(engine.instance("vm").unwrap().pid, instance.pid);
    rig.launcher.exit(instance.id, 0);
    let patience = Duration::from_secs(20);
    let seen = engine.wait_instance("vm", InstanceState::Shutdown, patience).unwrap();
    assert_eq!(seen.state, InstanceState::Shutdown);
}

#[test]
fn a_machine_that_ended_while_nobody_looked_is_shut_down() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.create_instance(wish("vm", &["gpu"])).unwrap();
    drop(engine);
    rig.launcher.exit(instance.id, 0);
    let (engine, _) = rig.open_recovered();
    assert_eq!(engine.instance("vm").unwrap().state, InstanceState::Shutdown);
    engine.delete_instance("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn unknown_is_never_taken_for_dead() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let instance = engine.create_instance(wish("vm", &["gpu"])).unwrap();
    let during = rig.host.snapshot();
    drop(engine);
    rig.launcher.set_unknown(instance.id, true);
    let (engine, report) = rig.open_recovered();
    assert_eq!(report.notes.len(), 1);
    assert_eq!(engine.instance("vm").unwrap().state, InstanceState::Unknown);
    assert_eq!(engine.delete_instance("vm").unwrap_err().code, Code::InvalidState);
    assert_eq!(engine.stop_instance("vm").unwrap_err().code, Code::InvalidState);
    assert_eq!(rig.host.snapshot(), during, "its devices are not touched");
    rig.launcher.set_unknown(instance.id, false);
    engine.delete_instance("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn after_a_restart_of_the_host_instances_are_stopped_and_can_be_started() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.create_instance(wish("vm", &["gpu", "nic"])).unwrap();
    drop(engine);
    rig.host.reboot();
    rig.launcher.reboot();
    let (engine, _) = rig.open_recovered();
    let instance = engine.instance("vm").unwrap();
    assert_eq!(instance.state, InstanceState::Stopped);
    assert_eq!(instance.state_error.as_deref(), Some("the host was restarted"));
    assert!(engine.claims().unwrap().iter().all(|claim| claim.state == ClaimState::Reserved));
    assert_eq!(rig.host.snapshot(), rig.before, "an earlier boot's steps are void, never undone");
    engine.start_instance("vm").unwrap();
    assert!(engine.device("gpu").unwrap().bound_to_vfio);
    engine.delete_instance("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn another_card_at_the_address_is_refused() {
    let rig = Rig::ready();
    rig.host.replace_card(GPU.parse().unwrap(), "00-00-00-ff-fe-00-00-01");
    let (engine, _) = rig.open_recovered();
    // The registration knows no serial number, so this is the same card as far as it can tell.
    engine.create_instance(wish("vm", &["gpu"])).unwrap();
    engine.stop_instance("vm").unwrap();
    drop(engine);
    rig.host.reboot();
    rig.launcher.reboot();
    rig.host.replace_card(GPU.parse().unwrap(), "00-00-00-ff-fe-00-00-02");
    let (engine, _) = rig.open_recovered();
    assert_eq!(engine.start_instance("vm").unwrap_err().code, Code::FingerprintChanged);
    assert_eq!(rig.host.snapshot(), rig.before);
    assert_eq!(engine.instance("vm").unwrap().state, InstanceState::Stopped);
    engine.delete_instance("vm").unwrap();
}

#[test]
fn resources_count_what_instances_have() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.create_instance(wish("vm", &["gpu"])).unwrap();
    let resources = engine.resources().unwrap();
    assert_eq!((resources.cpu.capacity, resources.cpu.allocated), (8, 2));
    assert_eq!((resources.memory.capacity, resources.memory.allocated), (16 << 30, 1 << 30));
    assert_eq!(resources.disk_images, 4096);
    assert!(resources.disk.capacity > 0);
    assert_eq!(resources.gpus, [("gpu".to_owned(), false), ("amd".to_owned(), true)]);
}

#[test]
fn the_journal_tells_what_was_done() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.create_instance(wish("vm", &["nic"])).unwrap();
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
            "make the machine's files".to_owned(),
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
        .create_instance(engine::CreateInstance { tags: tags.clone(), ..wish("a", &[]) })
        .unwrap();
    engine.create_instance(wish("b", &[])).unwrap();
    assert_eq!(engine.instances(&tags).unwrap().len(), 1);
    assert_eq!(engine.instances(&BTreeMap::new()).unwrap().len(), 2);
    assert!(engine.devices(&tags).unwrap().is_empty());
}

#[test]
fn of_many_who_want_one_device_one_gets_it() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|turn| {
                let engine = engine.clone();
                scope.spawn(move || engine.create_instance(wish(&format!("vm{turn}"), &["gpu"])))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refusal in results.into_iter().filter_map(Result::err) {
        assert_eq!(refusal.code, Code::InUse, "{refusal}");
    }
    assert_eq!(engine.claims().unwrap().len(), 1);
}

#[test]
fn instances_with_other_devices_are_created_side_by_side() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    std::thread::scope(|scope| {
        for name in ["gpu", "amd", "nic", "nvme"] {
            let engine = engine.clone();
            scope.spawn(move || {
                for _ in 0..5 {
                    engine.create_instance(wish(name, &[name])).unwrap();
                    engine.delete_instance(name).unwrap();
                }
            });
        }
    });
    rig.assert_untouched("after all");
}
