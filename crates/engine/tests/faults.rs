//! Steps of the host that fail, hang or are changed by other tools.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::{InstanceState, JournalEvent, Observer};
use model::{Address, ClaimState, Code, Holder, NodeAccess, Step};
use sim::{Fault, SimHost, When};
use support::{AMD, GPU, GPU_AUDIO, NIC, Rig, wish};

const DEVICES: &[&str] = &["gpu", "nic", "nvme"];

fn unbinding(address: &str) -> When {
    let wanted: Address = address.parse().unwrap();
    When::Step(Box::new(
        move |step| matches!(step, Step::Unbind { address, .. } if *address == wanted),
    ))
}

#[test]
fn a_failed_step_rolls_back_the_whole_create() {
    for nth in 0.. {
        let rig = Rig::ready();
        let (engine, _) = rig.open_recovered();
        rig.host.fault(When::Nth(nth), Fault::Refuse);
        let Err(refusal) = engine.instances().create(wish("vm", DEVICES)) else {
            assert!(nth > 20, "{nth}");
            return;
        };
        assert_eq!(refusal.code, Code::StepFailed, "{refusal}");
        rig.assert_untouched(&format!("step {nth} failed"));
        assert!(engine.claims().all().unwrap().is_empty());
        engine.instances().create(wish("vm", DEVICES)).unwrap();
        engine.instances().delete("vm").unwrap();
        rig.assert_untouched("after delete");
    }
}

#[test]
fn a_failed_launch_rolls_back_the_whole_create() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    rig.launcher.refuse_next("vfio: failed to set up container");
    let refusal = engine.instances().create(wish("vm", DEVICES)).unwrap_err();
    assert_eq!(refusal.code, Code::LaunchFailed);
    assert!(refusal.message.contains("failed to set up container"));
    assert!(!refusal.remedy.contains("instance logs"), "the instance is gone: {refusal:?}");
    rig.assert_untouched("the launch failed");
    assert_eq!(engine.journal(1).unwrap()[0].state, engine::OperationState::Undone);
}

#[test]
fn a_start_that_fails_leaves_the_instance_stopped() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", DEVICES)).unwrap();
    engine.instances().stop("vm").unwrap();
    let stopped = rig.host.snapshot();
    rig.launcher.refuse_next("no");
    assert_eq!(engine.instances().start("vm").unwrap_err().code, Code::LaunchFailed);
    let instance = engine.instances().find("vm").unwrap();
    assert_eq!(instance.state, InstanceState::Stopped);
    assert!(instance.state_error.unwrap().contains("did not start"));
    assert_eq!(rig.host.snapshot(), stopped);
    engine.instances().start("vm").unwrap();
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn a_hanging_unbind_wedges_only_its_device() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    rig.host.fault(unbinding(NIC), Fault::Hang);
    let refusal = engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap_err();
    assert_eq!(refusal.code, Code::DeviceWedged, "{refusal}");
    assert!(refusal.message.contains(NIC), "{refusal}");
    let now = rig.host.snapshot();
    for address in [GPU, GPU_AUDIO] {
        let address: Address = address.parse().unwrap();
        assert_eq!(now.functions[&address], rig.before.functions[&address], "it was restored");
    }
    assert!(engine.instances().all(&BTreeMap::new()).unwrap().is_empty(), "the name is free");
    let claims = engine.claims().all().unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].state, claims[0].owner.kind.as_str()), (ClaimState::Wedged, "undo"));

    // It is never chosen; other devices work.
    let again = engine.instances().create(wish("vm", &["nic"])).unwrap_err();
    assert_eq!(again.code, Code::DeviceWedged);
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
    engine.instances().delete("vm").unwrap();

    // The worker is still inside the kernel: neither clearing nor recovery can do anything yet.
    assert_eq!(engine.devices().clear("nic").unwrap_err().code, Code::DeviceWedged);
    drop(engine);
    let (engine, report) = rig.open_recovered();
    assert_eq!(report.notes.len(), 1, "{report:?}");
    assert_eq!(engine.claims().all().unwrap().len(), 1);

    rig.host.release();
    engine.devices().clear("nic").unwrap();
    rig.assert_untouched("after clearing");
    assert!(engine.claims().all().unwrap().is_empty());
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn recovery_restores_a_device_that_came_free_but_keeps_it_wedged() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    rig.host.fault(unbinding(NIC), Fault::Hang);
    engine.instances().create(wish("vm", &["nic"])).unwrap_err();
    drop(engine);
    rig.host.release();
    let (engine, _) = rig.open_recovered();
    rig.assert_untouched("after recovery");
    assert!(engine.claims().all().unwrap().is_empty());
    let refusal = engine.instances().create(wish("vm", &["nic"])).unwrap_err();
    assert_eq!(refusal.code, Code::DeviceWedged, "a person has to clear it");
    engine.devices().clear("nic").unwrap();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
}

#[test]
fn a_delete_that_hangs_can_be_repeated() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap();
    rig.host.fault(unbinding(GPU), Fault::Hang);
    assert_eq!(engine.instances().delete("vm").unwrap_err().code, Code::DeviceWedged);
    let instance = engine.instances().find("vm").unwrap();
    assert_eq!(instance.state, InstanceState::Stopped);
    assert!(instance.state_error.is_some());
    assert_eq!(engine.instances().start("vm").unwrap_err().code, Code::DeviceWedged);
    rig.host.release();
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
    engine.devices().clear("gpu").unwrap();
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
}

#[test]
fn a_daemon_killed_while_a_worker_hangs_wedges_the_device_at_recovery() {
    for boundary in 0.. {
        let rig = Rig::ready();
        rig.host.fault(unbinding(NIC), Fault::Hang);
        let lived = rig.killed_at(boundary, |engine| {
            engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap_err();
        });
        if lived {
            break;
        }
        rig.open_recovered();
        rig.host.clear_faults();
        rig.host.release();
        let (engine, _) = rig.open_recovered();
        rig.assert_untouched(&format!("killed at boundary {boundary}"));
        assert!(engine.claims().all().unwrap().is_empty());
        engine.devices().clear("nic").unwrap();
        engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap();
    }
}

#[test]
fn a_device_that_another_tool_changed_is_left_alone_and_reported() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap();
    engine.instances().stop("vm").unwrap();
    let nic: Address = NIC.parse().unwrap();
    rig.host.change(nic, |state| state.driver_override = Some("pci-stub".into()));
    let mut foreign = rig.host.snapshot().functions[&nic].clone();
    engine.instances().delete("vm").unwrap();
    let now = rig.host.snapshot();
    // The mark belongs to the claim.
    foreign.mark = None;
    assert_eq!(now.functions[&nic], foreign, "it is as the other tool left it");
    let gpu: Address = GPU.parse().unwrap();
    assert_eq!(now.functions[&gpu], rig.before.functions[&gpu]);
    let operation = engine.journal(1).unwrap().remove(0);
    assert!(operation.error.unwrap().contains("left alone"));
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn a_device_that_was_returned_by_hand_is_fine() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["amd"])).unwrap();
    engine.instances().stop("vm").unwrap();
    let address: Address = AMD.parse().unwrap();
    let vfio: String = "vfio-pci".into();
    for step in [
        Step::SetOverride { address, from: Some(vfio.clone()), to: None },
        Step::Unbind { address, driver: vfio },
        Step::Return { address, driver: "amdgpu".into() },
    ] {
        rig.host.meddle(&step).unwrap();
    }
    engine.instances().start("vm").unwrap();
    engine.instances().stop("vm").unwrap();
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn a_device_that_falls_off_the_bus_does_not_block_the_others() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap();
    rig.host.fault(unbinding(NIC), Fault::Lose);
    engine.instances().delete("vm").unwrap();
    let operation = engine.journal(1).unwrap().remove(0);
    assert!(operation.error.unwrap().contains("not on the bus"));
    let gpu: Address = GPU.parse().unwrap();
    assert_eq!(rig.host.snapshot().functions[&gpu], rig.before.functions[&gpu]);
    assert_eq!(engine.devices().find("nic").unwrap().iommu_group, None);
    engine.devices().delete("nic").unwrap();
}

#[test]
fn a_group_node_that_another_tool_changed_does_not_block_the_rest() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let uid = engine.instances().create(wish("vm", &["nic"])).unwrap().uid;
    let (ours, theirs) =
        (NodeAccess { uid, gid: 0, mode: 0o600 }, NodeAccess { uid: 0, gid: 0, mode: 0o666 });
    let address = NIC.parse().unwrap();
    rig.host.meddle(&Step::GrantGroup { address, group: 4, from: ours, to: theirs }).unwrap();
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
    let operation = engine.journal(1).unwrap().remove(0);
    assert!(operation.error.unwrap().contains("IOMMU group 4"), "it is reported");
}

#[test]
fn recovery_waits_for_a_worker_that_is_about_to_end() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.limit_patience(Duration::from_secs(60));
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    rig.host.fault(unbinding(NIC), Fault::Hang);
    assert_eq!(engine.instances().delete("vm").unwrap_err().code, Code::DeviceWedged);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            rig.host.release();
        });
        engine.instances().delete("vm").unwrap();
    });
    rig.assert_untouched("after delete");
}

/// Starts to use the NIC once it is reserved.
struct Latecomer(Arc<SimHost>);

impl Observer for Latecomer {
    fn reached(&self, event: &JournalEvent) {
        if matches!(event, JournalEvent::Opened { .. }) {
            self.0.hold(Holder {
                address: NIC.parse().unwrap(),
                kind: model::HolderKind::Process,
                pid: Some(4711),
                started: None,
                program: None,
                user: "dpdk (pid 4711)".into(),
                by: "/dev/uio0".into(),
                mdev: None,
                interface: None,
            });
        }
    }
}

#[test]
fn a_device_that_came_into_use_meanwhile_is_not_taken() {
    let rig = Rig::ready();
    let engine = rig.open_with(Arc::new(Latecomer(rig.host.clone()))).unwrap();
    engine.recover().unwrap();
    let refusal = engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap_err();
    assert_eq!(refusal.code, Code::InUse, "{refusal}");
    assert!(refusal.message.contains("pid 4711"), "{refusal}");
    rig.assert_untouched("the NIC is in use");
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn a_create_whose_files_cannot_be_removed_leaves_an_instance_to_delete() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    rig.launcher.refuse_next("no");
    rig.launcher.refuse_next_removal("Input/output error");
    let refusal = engine.instances().create(wish("vm", &["nic"])).unwrap_err();
    assert_eq!(refusal.code, Code::UndoFailed, "{refusal}");
    assert!(refusal.message.contains("Input/output error"), "{refusal}");
    assert_eq!(rig.host.snapshot(), rig.before, "the devices were restored");
    let instance = engine.instances().find("vm").unwrap();
    assert_eq!(instance.state, InstanceState::Stopped);
    assert!(instance.state_error.unwrap().contains("Input/output error"));
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after delete");
}

#[test]
fn a_function_that_was_lost_between_remove_and_rescan_is_found_again() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
    rig.host.remove(GPU.parse().unwrap());
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("the function is back with its driver");
}
