//! Claims of partitions: virtual functions, mediated devices and vGPUs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{ClaimRequest, ClaimStep};
use model::{Attachment, ClaimState, Code, Host, Mechanism, Step, VgpuType};
use sim::{Fault, When};
use support::{Rig, at, claim, refused, request, wish};

#[test]
fn a_profile_is_found_by_either_mechanism() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    engine.vf_counts().set("0000:04:00.0", 16, true).unwrap();
    let before = rig.host.snapshot();
    let mdevs = claim(&engine, "one", &["2xprofile=A100-10C"]);
    assert!(mdevs.parts.iter().all(|part| part.head == at("0000:03:00.0")));
    let vgpus = claim(&engine, "two", &["3xprofile=L40S-8Q"]);
    assert_eq!(vgpus.parts.len(), 3);
    let attach = Attachment::of(&vgpus);
    assert_eq!((attach.qemu.len(), attach.cloud_hypervisor.len()), (3, 0), "vGPUs need QEMU");
    assert!(Attachment::of(&mdevs).qemu[0].contains("sysfsdev"));
    // 20 of 40 and 24 of 48 units are allocated.
    assert_eq!(refused(&engine, "three", &["profile=A100-40C"]).code, Code::InsufficientResources);
    let other = refused(&engine, "three", &["profile=L40S-48Q@0000:04:00.0"]);
    assert_eq!(other.code, Code::InsufficientResources);
    let limit = "0000:04:00.0 offers only ";
    assert!(other.message.contains(limit) && other.message.contains("L40S-8Q"), "{other}");
    let whole = refused(&engine, "three", &["0000:03:00.0"]);
    assert_eq!(whole.code, Code::InUse, "partitions are claimed");
    assert!(whole.message.contains("job/one"), "{whole}");
    assert!(whole.remedy.contains("handover release"), "no claim's mdev is to be removed: {whole}");
    // A reserved claim counts, even if nothing is created yet.
    let reserve =
        ClaimRequest { step: ClaimStep::Reserve, ..request("four", &["profile=A100-10C"]) };
    engine.claims().claim(&reserve).unwrap();
    assert_eq!(refused(&engine, "three", &["0000:03:00.0"]).code, Code::InUse, "it is reserved");
    for owner in ["job/one", "job/two", "job/four"] {
        engine.claims().release(owner, None).unwrap();
    }
    assert_eq!(rig.host.snapshot(), before);
}

#[test]
fn a_profile_on_a_mig_instance_works_like_the_others() {
    let mut hardware = sim::server();
    let board = hardware.physical.get_mut(&at("0000:04:00.0")).unwrap().vgpus.as_mut().unwrap();
    let kind = |id, name: &str| VgpuType { id, name: name.into() };
    // A GPU in MIG mode offers only these, once nvidia-smi has created its instances.
    board.types = vec![(kind(1200, "NVIDIA A100-1-5C"), 6), (kind(1201, "NVIDIA A100-3-20C"), 24)];
    let parent = hardware.parents.get_mut(&at("0000:03:00.0")).unwrap();
    let (id, name) = ("nvidia-699".into(), "GRID A100-2-10C".into());
    parent.types.push(sim::MdevKind { id, name, cost: 10 });
    let rig = Rig::on(hardware);
    let (engine, _) = rig.open_recovered();
    engine.vf_counts().set("0000:04:00.0", 8, false).unwrap();
    let bare = refused(&engine, "one", &["profile=A100-3-20C"]);
    assert!(bare.message.contains("0000:04:00.0 have no driver"), "{bare}");
    let anew = "sriov set 0000:04:00.0 0 && handover sriov set 0000:04:00.0 8 --autoprobe";
    assert!(bare.remedy.ends_with(anew), "{bare}");
    engine.vf_counts().set("0000:04:00.0", 0, true).unwrap();
    engine.vf_counts().set("0000:04:00.0", 8, true).unwrap();
    let before = rig.host.snapshot();
    let wants = ["profile=A100-3-20C", "2xprofile=A100-1-5C", "profile=A100-2-10C"];
    let made = claim(&engine, "one", &wants);
    let how: Vec<_> = made.parts.iter().map(|part| &part.partition.as_ref().unwrap().how).collect();
    assert!(matches!(how[0], Mechanism::Vgpu { type_id: 1201, .. }), "{how:?}");
    assert!(matches!(how[1..3], [Mechanism::Vgpu { .. }, Mechanism::Vgpu { .. }]), "{how:?}");
    assert!(matches!(how[3], Mechanism::Mdev { type_id, .. } if type_id == "nvidia-699"));
    engine.claims().release("job/one", None).unwrap();
    assert_eq!(rig.host.snapshot(), before);
}

#[test]
fn mediated_devices_of_others_are_used_and_never_removed() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let uuid = uuid::Uuid::new_v4();
    let address = at("0000:03:00.0");
    rig.host.meddle(&Step::CreateMdev { address, uuid, type_id: "nvidia-468".into() }).unwrap();
    let before = rig.host.snapshot();
    let want = format!("mdev={uuid}");
    claim(&engine, "one", &[&want]);
    assert_eq!(refused(&engine, "two", &[&want]).code, Code::InUse);
    engine.claims().release("job/one", None).unwrap();
    assert_eq!(rig.host.snapshot(), before);
}

#[test]
fn a_mediated_device_in_use_is_neither_removed_nor_claimed() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let made = claim(&engine, "one", &["profile=A100-10C"]);
    let uuid = made.parts[0].partition.as_ref().unwrap().mdev().unwrap();
    assert!(rig.host.open_mdev(uuid, 4711));
    let refusal = engine.claims().release("job/one", None).unwrap_err();
    assert_eq!(refusal.code, Code::InUse, "{refusal}");
    assert!(refusal.message.contains("pid 4711"), "{refusal}");
    assert_eq!(engine.claims().all().unwrap()[0].state, ClaimState::Prepared);
    rig.host.let_go(4711);
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");

    let address = at("0000:03:00.0");
    rig.host.meddle(&Step::CreateMdev { address, uuid, type_id: "nvidia-468".into() }).unwrap();
    assert!(rig.host.open_mdev(uuid, 4712));
    let refusal = refused(&engine, "two", &[&format!("mdev={uuid}")]);
    assert_eq!(refusal.code, Code::InUse, "{refusal}");
    claim(&engine, "three", &["profile=A100-10C"]);
}

#[test]
fn attributes_are_written_in_order() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let made = claim(&engine, "one", &["profile=A100-4C,nvidia/vgpu_params=frame_rate_limiter=0"]);
    let uuid = made.parts[0].partition.as_ref().unwrap().mdev().unwrap();
    let state = rig.host.snapshot();
    assert_eq!(state.mdevs[&uuid].attributes["nvidia/vgpu_params"], "frame_rate_limiter=0");
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
}

#[test]
fn virtual_functions_are_configured_and_then_claimed() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let nic = "0000:01:00.0";
    let refusal = refused(&engine, "one", &["vf@0000:01:00.0"]);
    assert!(refusal.remedy.contains("sriov set 0000:01:00.0"), "{refusal:?}");
    engine.vf_counts().set(nic, 4, false).unwrap();
    let before = rig.host.snapshot();
    let made = claim(&engine, "one", &["2xvf@0000:01:00.0,vlan=100,trust=on"]);
    for part in &made.parts {
        let Mechanism::Vf { index, .. } = part.partition.as_ref().unwrap().how else { panic!() };
        let settings = rig.host.snapshot().functions[&part.head].settings.clone().unwrap();
        assert_eq!((settings.vlan, settings.trust), (Some(100), Some(true)), "VF {index}");
    }
    // The server's GPU has VFs too.
    let gpu = refused(&engine, "two", &["vf@0000:04:00.0,vlan=5"]);
    assert_eq!(gpu.code, Code::InvalidRequest, "{gpu}");
    assert!(gpu.message.contains("(vlan 5)") && gpu.remedy.contains("`vf@0000:04:00.0`"), "{gpu}");
    // The whole device and its VFs exclude each other, and its VF count cannot change while one is claimed.
    assert_eq!(refused(&engine, "two", &[nic]).code, Code::InUse);
    let one_mac = refused(&engine, "two", &["2xvf@0000:01:00.0,mac=52:54:00:00:77:01"]);
    assert_eq!(one_mac.code, Code::InvalidRequest);
    assert!(one_mac.message.contains("52:54:00:00:77:01"), "{}", one_mac.message);
    assert_eq!(engine.vf_counts().set(nic, 8, false).unwrap_err().code, Code::InUse);
    assert_eq!(claim(&engine, "two", &["2xvf@0000:01:00.0"]).parts.len(), 2);
    let refusal = refused(&engine, "three", &["vf@0000:01:00.0"]);
    assert_eq!(refusal.code, Code::InsufficientResources, "{refusal}");
    engine.claims().release("job/one", None).unwrap();
    engine.claims().release("job/two", None).unwrap();
    assert_eq!(rig.host.snapshot(), before);
    // The VF count is configuration: it is restored at boot.
    drop(engine);
    rig.host.reboot();
    let (engine, report) = rig.open_recovered();
    assert_eq!(report.restored, ["4 virtual functions of 0000:01:00.0"]);
    assert_eq!(claim(&engine, "one", &["4xvf@0000:01:00.0"]).parts.len(), 4);
    engine.claims().release("job/one", None).unwrap();
    engine.vf_counts().set(nic, 0, true).unwrap();
    assert!(engine.vf_counts().all().unwrap().is_empty());
}

#[test]
fn fewer_virtual_functions_than_requested_is_a_failure() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let counts = |step: &Step| matches!(step, Step::SetVfCount { .. });
    rig.host.fault(When::Step(Box::new(counts)), Fault::Fewer(2));
    let refusal = engine.vf_counts().set("0000:01:00.0", 4, false).unwrap_err();
    assert_eq!(refusal.code, Code::StepFailed, "{refusal}");
    rig.assert_untouched("fewer came");
    assert!(engine.vf_counts().all().unwrap().is_empty());
}

#[test]
fn an_instance_gets_a_vgpu_by_its_profile() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    rig.import(&engine, "debian");
    let vgpu = engine::DeviceWish::Wanted("profile=A100-4C".parse().unwrap());
    let request = engine::CreateInstance { devices: vec![vgpu], ..wish("vm", &[]) };
    let made = engine.instances().create(request).unwrap();
    let gpu = made.gpu.unwrap();
    let there = rig.host.snapshot().mdevs;
    assert_eq!(there.keys().copied().collect::<Vec<_>>(), [gpu.mdev.unwrap()]);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after the delete");
}

#[test]
fn virtual_functions_lost_with_their_driver_are_reported() {
    let nic = "0000:01:00.0";
    let mut notes = Vec::new();
    for boundary in 0..40 {
        let rig = Rig::on(sim::server());
        rig.open_recovered().0.vf_counts().set(nic, 4, false).unwrap();
        if rig.killed_at(boundary, |engine| engine.vf_counts().set(nic, 6, false).unwrap()) {
            break;
        }
        rig.host.meddle(&Step::Unbind { address: at(nic), driver: "ice".into() }).unwrap();
        notes.extend(rig.open_recovered().1.notes);
    }
    let noted = |note: &String| note.contains(nic) && note.contains("unbound the driver");
    assert!(notes.iter().any(noted), "{notes:#?}");
}

/// A virtual function that another tool has made a vGPU is taken and given back as that.
#[test]
fn an_existing_vgpu_stays_what_it_is() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    engine.vf_counts().set("0000:04:00.0", 16, true).unwrap();
    let vf = {
        let made = claim(&engine, "one", &["profile=L40S-8Q"]);
        let head = made.parts[0].head;
        engine.claims().release("job/one", None).unwrap();
        head
    };
    let step = Step::SetVgpu { address: vf, from: 0, to: 1157 };
    rig.host.perform(&step).unwrap();
    let before = rig.host.snapshot();
    let address = vf.to_string();
    let vgpu = claim(&engine, "two", &[&address]);
    let how = &vgpu.parts[0].partition.as_ref().unwrap().how;
    assert!(matches!(how, Mechanism::Vgpu { type_id: 1157, existing: true, .. }), "{how:?}");
    let now = rig.host.snapshot();
    assert_eq!(now.functions[&vf].vgpu, Some(1157));
    assert_eq!(now.functions[&vf].driver, before.functions[&vf].driver, "it stays on its driver");
    let refusal = refused(&engine, "three", &[&address]);
    assert_eq!(refusal.code, Code::InUse);
    engine.claims().release("job/two", None).unwrap();
    assert_eq!(rig.host.snapshot(), before, "it is the vGPU that it was");
}
