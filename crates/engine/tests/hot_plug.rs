//! Devices that come to running machines and leave them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{CreateInstance, DeviceWish, Engine, Instance, InstanceState, OperationState};
use model::{Address, ClaimState, Code, Refusal};
use support::{AMD, GPU, GPU_AUDIO, NIC, NVME, Rig, at, wish};

const SOON: Duration = Duration::from_millis(10);

fn attach(engine: &Engine, device: &str) -> Result<Instance, Refusal> {
    engine.instances().attach_device("vm", &DeviceWish::Registered(device.into()))
}

fn detach(engine: &Engine, device: &str) -> Result<Instance, Refusal> {
    engine.instances().detach_device("vm", device, SOON).map(|(instance, _)| instance)
}

/// What the machine has in its ports.
fn ports(rig: &Rig, engine: &Engine) -> BTreeMap<u32, Vec<Address>> {
    rig.launcher.ports(engine.instances().find("vm").unwrap().id)
}

fn port(number: u32, functions: &[&str]) -> (u32, Vec<Address>) {
    (number, functions.iter().map(|text| at(text)).collect())
}

/// The whole GPU is on its driver, or it is not.
fn is_back(rig: &Rig, device: &str) -> bool {
    rig.host.snapshot().functions[&at(device)] == rig.before.functions[&at(device)]
}

#[test]
fn a_running_machine_gets_a_gpu_with_its_audio_in_one_port_and_loses_it() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let created = engine.instances().create(wish("vm", &["nic"])).unwrap();
    let attached = attach(&engine, "gpu").unwrap();
    assert_eq!(attached.devices.len(), 2);
    assert_eq!(ports(&rig, &engine), [port(0, &[NIC]), port(1, &[GPU, GPU_AUDIO])].into());
    let twice = attach(&engine, GPU).unwrap_err();
    assert_eq!(twice.code, Code::Conflict, "{twice}");
    let addresses = engine.instances().guest_addresses(&attached);
    let audio = (model::GuestSource::Function(at(GPU_AUDIO)), at("0000:02:00.1"));
    assert!(addresses.contains(&audio), "{addresses:?}");

    let detached = detach(&engine, "gpu").unwrap();
    assert_eq!(detached.devices, created.devices);
    assert!(is_back(&rig, GPU) && is_back(&rig, GPU_AUDIO));
    assert_eq!(ports(&rig, &engine), [port(0, &[NIC])].into());
    // One that it was started with leaves too, and its port is free for another.
    detach(&engine, NIC).unwrap();
    attach(&engine, "nvme").unwrap();
    assert_eq!(ports(&rig, &engine), [port(0, &[NVME])].into());
    assert_eq!(detach(&engine, "nic").unwrap_err().code, Code::NotFound);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("at the end");
}

#[test]
fn a_device_keeps_its_port_over_a_stop() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["nic", "nvme"])).unwrap();
    attach(&engine, "gpu").unwrap();
    detach(&engine, "nvme").unwrap();
    let while_it_ran = ports(&rig, &engine);
    engine.instances().stop("vm").unwrap();
    engine.instances().start("vm").unwrap();
    assert_eq!(ports(&rig, &engine), while_it_ran);
    assert_eq!(while_it_ran, [port(0, &[NIC]), port(2, &[GPU, GPU_AUDIO])].into());
}

#[test]
fn a_stopped_instance_gets_and_loses_devices_at_its_next_start() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &[])).unwrap();
    engine.instances().stop("vm").unwrap();
    attach(&engine, "gpu").unwrap();
    attach(&engine, "nic").unwrap();
    assert!(is_back(&rig, GPU), "reserved only");
    engine.instances().start("vm").unwrap();
    assert_eq!(ports(&rig, &engine), [port(0, &[GPU, GPU_AUDIO]), port(1, &[NIC])].into());
    engine.instances().stop("vm").unwrap();
    assert_eq!(detach(&engine, "gpu").unwrap().devices.len(), 1);
    assert!(is_back(&rig, GPU));
    assert_eq!(engine.claims().all().unwrap().len(), 1);
}

#[test]
fn a_machine_without_a_free_port_is_not_touched() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let none = CreateInstance { spare_ports: Some(0), ..wish("vm", &["nic"]) };
    engine.instances().create(none).unwrap();
    let refused = attach(&engine, "gpu").unwrap_err();
    assert_eq!(refused.code, Code::InsufficientResources, "{refused}");
    assert!(is_back(&rig, GPU));
    assert_eq!(engine.claims().all().unwrap().len(), 1);
    let many = CreateInstance { spare_ports: Some(17), ..wish("other", &[]) };
    assert_eq!(engine.instances().create(many).unwrap_err().code, Code::InvalidRequest);
}

#[test]
fn what_a_machine_takes_only_half_goes_back() {
    for taken in 0..2 {
        let rig = Rig::ready();
        let (engine, _) = rig.open_recovered();
        engine.instances().create(wish("vm", &[])).unwrap();
        rig.launcher.refuse_next_plug("vfio: error", taken);
        let refused = attach(&engine, "gpu").unwrap_err();
        assert_eq!(refused.code, Code::StepFailed, "{refused}");
        assert!(is_back(&rig, GPU) && is_back(&rig, GPU_AUDIO));
        assert!(engine.claims().all().unwrap().is_empty());
        let vm = engine.instances().find("vm").unwrap();
        assert!(vm.options.moving.is_still() && vm.devices.is_empty(), "{vm:?}");
        attach(&engine, "gpu").unwrap();
    }
}

#[test]
fn a_guest_that_does_not_let_go_keeps_the_device_until_it_does() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap().id;
    rig.launcher.set_stubborn(id, true);
    for _ in 0..2 {
        let refused = detach(&engine, "gpu").unwrap_err();
        assert_eq!(refused.code, Code::GuestKeepsDevice, "{refused}");
    }
    let kept = engine.instances().find("vm").unwrap();
    assert_eq!((kept.devices.len(), kept.options.moving.leaving.len()), (2, 1));
    assert!(engine.instances().unsettled(&kept).unwrap().contains("0000:01:00.0"));
    engine.check_claims().unwrap();
    assert!(!is_back(&rig, GPU));
    // It lets go late.
    rig.launcher.set_stubborn(id, false);
    engine.check_claims().unwrap();
    assert!(is_back(&rig, GPU) && !is_back(&rig, NIC));
    let vm = engine.instances().find("vm").unwrap();
    assert!(vm.options.moving.is_still() && vm.devices.len() == 1, "{vm:?}");
    // Or not before its machine ends.
    rig.launcher.set_stubborn(id, true);
    detach(&engine, "nic").unwrap_err();
    engine.instances().stop("vm").unwrap();
    assert!(is_back(&rig, NIC));
    assert!(engine.instances().find("vm").unwrap().devices.is_empty());
}

#[test]
fn a_machine_that_does_not_answer_for_seconds_is_asked_again() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
    rig.launcher.set_late_answers(3);
    engine.instances().detach_device("vm", "gpu", Duration::from_secs(30)).unwrap();
    assert!(is_back(&rig, GPU));
    attach(&engine, "gpu").unwrap();
    // Not without end.
    rig.launcher.set_late_answers(u32::MAX);
    let refused = detach(&engine, "gpu").unwrap_err();
    assert_eq!(refused.code, Code::GuestKeepsDevice, "{refused}");
    rig.launcher.set_late_answers(0);
    detach(&engine, "gpu").unwrap();
    assert!(is_back(&rig, GPU));
}

#[test]
fn a_guest_that_ends_by_itself_gives_back_what_it_was_asked_for() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap().id;
    rig.launcher.set_stubborn(id, true);
    detach(&engine, "gpu").unwrap_err();
    rig.launcher.exit(id, 0);
    let ended = InstanceState::Shutdown;
    engine.instances().wait("vm", ended, Duration::from_secs(20)).unwrap();
    engine.instances().start("vm").unwrap();
    assert!(is_back(&rig, GPU));
    assert_eq!(ports(&rig, &engine), [port(1, &[NIC])].into());
}

#[test]
fn a_device_that_the_guest_ejects_goes_back_and_can_be_plugged_again() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &["nic", "gpu"])).unwrap().id;
    assert!(rig.launcher.eject(id, at(GPU)));
    engine.check_claims().unwrap();
    assert!(is_back(&rig, GPU));
    let vm = engine.instances().find("vm").unwrap();
    assert!(engine.instances().unsettled(&vm).unwrap().contains("ejected 0000:01:00.0"));
    assert_eq!(vm.devices.len(), 2, "it stays the instance's");
    attach(&engine, "gpu").unwrap();
    assert_eq!(ports(&rig, &engine), [port(0, &[NIC]), port(1, &[GPU, GPU_AUDIO])].into());
    assert_eq!(engine.instances().unsettled(&engine.instances().find("vm").unwrap()), None);
    // Or it comes back with the next start.
    assert!(rig.launcher.eject(id, at(GPU)));
    engine.check_claims().unwrap();
    engine.instances().stop("vm").unwrap();
    engine.instances().start("vm").unwrap();
    assert_eq!(ports(&rig, &engine).len(), 2);
    assert!(engine.instances().find("vm").unwrap().options.moving.is_still());
}

#[test]
fn a_paused_guest_is_not_asked() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    engine.instances().pause("vm").unwrap();
    assert_eq!(detach(&engine, "nic").unwrap_err().code, Code::InvalidState);
    attach(&engine, "gpu").unwrap();
    engine.instances().resume("vm").unwrap();
    detach(&engine, "nic").unwrap();
    assert!(is_back(&rig, NIC));
}

/// A machine that gets devices and loses them.
fn life(engine: &Engine) {
    attach(engine, "gpu").unwrap();
    detach(engine, "nic").unwrap();
    attach(engine, "nvme").unwrap();
    detach(engine, "gpu").unwrap();
}

/// Each device is in the guest and recorded so, or on its driver.
fn assert_consistent(rig: &Rig, engine: &Engine, why: &str) {
    let vm = engine.instances().find("vm").unwrap();
    assert!(vm.options.moving.is_still(), "{why}: {vm:?}");
    let running = rig.launcher.running().contains(&vm.id);
    let claims = engine.claims().all().unwrap();
    let in_guest: Vec<Address> = rig.launcher.ports(vm.id).into_values().flatten().collect();
    for device in [GPU, GPU_AUDIO, NIC, NVME, AMD].map(at) {
        let claim = claims.iter().find(|claim| claim.holds(device));
        let is_prepared = claim.is_some_and(|claim| claim.state == ClaimState::Prepared);
        if running {
            assert_eq!(in_guest.contains(&device), is_prepared, "{why}: {device}");
        }
        let is_back = is_back(rig, &device.to_string());
        assert_eq!(is_back, !is_prepared, "{why}: {device} {claim:?}");
    }
    assert_eq!(vm.devices.len(), claims.len(), "{why}");
    let ended = engine.journal(5).unwrap().iter().all(|op| op.state != OperationState::Open);
    assert!(ended, "{why}");
}

#[test]
fn killed_at_any_boundary_each_device_is_in_the_guest_or_on_its_driver() {
    for end in ["none", "vmm", "host"] {
        let mut boundary = 0;
        loop {
            let rig = Rig::ready();
            let (engine, _) = rig.open_recovered();
            let id = engine.instances().create(wish("vm", &["nic"])).unwrap().id;
            drop(engine);
            let survived = rig.killed_at(boundary, life);
            match end {
                "vmm" => rig.launcher.exit(id, 1),
                "host" => {
                    rig.host.reboot();
                    rig.launcher.reboot();
                }
                _ => {}
            }
            let why = format!("killed at boundary {boundary}, end: {end}");
            let (engine, report) = rig.open_recovered();
            assert!(report.notes.is_empty(), "{why}: {:?}", report.notes);
            if end != "host" {
                assert_consistent(&rig, &engine, &why);
            }
            engine.instances().delete("vm").unwrap();
            rig.assert_untouched(&why);
            if survived {
                break;
            }
            boundary += 1;
        }
        assert!(boundary > 60, "only {boundary} boundaries");
    }
}

#[test]
fn killed_while_a_guest_does_not_let_go_nothing_is_lost() {
    for boundary in 0.. {
        let rig = Rig::ready();
        let (engine, _) = rig.open_recovered();
        let id = engine.instances().create(wish("vm", &["gpu"])).unwrap().id;
        drop(engine);
        rig.launcher.set_stubborn(id, true);
        let survived = rig.killed_at(boundary, |engine| drop(detach(engine, "gpu")));
        let (engine, _) = rig.open_recovered();
        let why = format!("killed at boundary {boundary}");
        assert!(!is_back(&rig, GPU), "{why}");
        rig.launcher.set_stubborn(id, false);
        engine.check_claims().unwrap();
        let is_out = ports(&rig, &engine).is_empty();
        assert_eq!(is_back(&rig, GPU), is_out, "{why}");
        engine.instances().delete("vm").unwrap();
        rig.assert_untouched(&why);
        if survived {
            assert!(boundary > 2);
            return;
        }
    }
}

#[test]
fn killed_again_during_recovery_the_next_one_completes() {
    for first in (1..).step_by(7) {
        for second in (0..).step_by(2) {
            let rig = Rig::ready();
            let (engine, _) = rig.open_recovered();
            engine.instances().create(wish("vm", &["nic"])).unwrap();
            drop(engine);
            if rig.killed_at(first, life) {
                return;
            }
            let lived = rig.killed_at(second, |engine| drop(engine.recover().unwrap()));
            let (engine, _) = rig.open_recovered();
            assert_consistent(&rig, &engine, &format!("{first}, then {second} of recovery"));
            if lived {
                break;
            }
        }
    }
}
