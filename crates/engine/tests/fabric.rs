//! Sets of GPUs that NVSwitch isolates: a machine gets all GPUs of one, and it is active while the machine has them.
//!
//! The board has eight GPUs; its sets are 0: all, 1 and 2: halves, 3 to 6: pairs (`11:00.0` with `12:00.0`, ...), 7 to 14: each alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use engine::{CreateInstance, DeviceWish, Engine};
use model::{Address, Claim, Code, Step};
use sim::{Fault, When};
use support::{Rig, at, claim, refused, request, wish};

/// The numbers of the active sets.
fn active(rig: &Rig) -> Vec<u32> {
    let drawn = rig.host.snapshot().drawn;
    let number = |name: &str| name.strip_prefix("fabric set ")?.parse().ok();
    let mut all: Vec<u32> =
        drawn.iter().filter(|(_, on)| **on).filter_map(|(name, _)| number(name)).collect();
    all.sort_unstable();
    all
}

fn heads(claim: &Claim) -> BTreeSet<Address> {
    claim.parts.iter().map(|part| part.head).collect()
}

fn wanted(text: &str) -> DeviceWish {
    DeviceWish::Wanted(text.parse().unwrap())
}

fn machine(name: &str, devices: &[&str]) -> CreateInstance {
    let devices = devices.iter().map(|text| wanted(text)).collect();
    CreateInstance { devices, ..wish(name, &[]) }
}

fn board() -> (Rig, Engine) {
    let rig = Rig::on(sim::board());
    let (engine, _) = rig.open_recovered();
    rig.import(&engine, "debian");
    (rig, engine)
}

#[test]
fn gpus_of_one_set_are_chosen_and_the_set_is_active_while_they_are_claimed() {
    let (rig, engine) = board();
    let (_, plan) = engine.claims().dry_run(&request("one", &["2xgpu"])).unwrap();
    assert_eq!(plan.last.last().unwrap().describe(), "activate fabric set 3");
    assert_eq!(active(&rig), [0u32; 0]);
    // The two that are nearest to each other are no set.
    let two = claim(&engine, "two", &["2xgpu"]);
    assert_eq!(heads(&two), [at("0000:11:00.0"), at("0000:12:00.0")].into());
    assert_eq!(active(&rig), [3]);
    // A single one comes from the half that is broken already.
    let one = claim(&engine, "one", &["gpu"]);
    assert_eq!(active(&rig).len(), 2);
    assert!(heads(&one).first().unwrap().bus() < 0x20, "{one:?}");
    let four = claim(&engine, "four", &["4xgpu"]);
    assert!(heads(&four).iter().all(|gpu| gpu.bus() > 0x20), "{four:?}");
    assert!(active(&rig).contains(&2), "{:?}", active(&rig));
    for owner in ["two", "one", "four"] {
        engine.claims().release(&format!("job/{owner}"), None).unwrap();
    }
    rig.assert_untouched("all are released");
}

#[test]
fn what_is_no_set_is_refused_with_the_sets() {
    let (rig, engine) = board();
    let three = refused(&engine, "one", &["3xgpu"]);
    assert_eq!(three.code, Code::InsufficientResources);
    assert!(three.message.contains("no fabric set"), "{three:?}");
    assert!(three.remedy.contains("(1, 2, 4, 8)"), "{three:?}");
    let near = refused(&engine, "one", &["0000:11:00.0", "0000:11:01.0"]);
    assert!(near.remedy.contains("3 (0000:11:00.0, 0000:12:00.0)"), "{near:?}");
    // All of a set by name are one.
    let pair = claim(&engine, "one", &["0000:11:01.0", "0000:12:01.0"]);
    assert_eq!((heads(&pair).len(), active(&rig)), (2, vec![4]));
    let half = refused(&engine, "two", &["0000:11:00.0", "0000:12:00.0", "2xgpu"]);
    assert_eq!(half.code, Code::InsufficientResources, "{half:?}");
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("released");
}

#[test]
fn a_machine_has_an_active_set_as_long_as_it_runs() {
    let (rig, engine) = board();
    engine.instances().create(machine("vm", &["4xgpu"])).unwrap();
    assert_eq!(active(&rig), [1]);
    engine.instances().stop("vm").unwrap();
    assert_eq!(active(&rig), [0u32; 0]);
    let engine = rig.open_again(engine);
    engine.instances().start("vm").unwrap();
    assert_eq!(active(&rig), [1]);
    // While it runs, its set is whole.
    let refused = engine.instances().detach_device("vm", "0000:11:00.0", Duration::ZERO);
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, Code::InvalidState);
    assert!(refused.message.contains("one fabric set"), "{refused:?}");
    let more = engine.instances().attach_device("vm", &wanted("gpu")).unwrap_err();
    assert_eq!(more.code, Code::InsufficientResources, "{more:?}");
    assert_eq!(active(&rig), [1]);
    // Without one of its GPUs it cannot start.
    engine.instances().stop("vm").unwrap();
    engine.instances().detach_device("vm", "0000:11:00.0", Duration::ZERO).unwrap();
    let refused = engine.instances().start("vm").unwrap_err();
    assert!(refused.message.contains("no fabric set"), "{refused:?}");
    engine.instances().attach_device("vm", &wanted("0000:11:00.0")).unwrap();
    engine.instances().start("vm").unwrap();
    assert_eq!(active(&rig), [1]);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("deleted");
}

#[test]
fn a_single_gpu_comes_to_a_running_machine_with_its_set() {
    let (rig, engine) = board();
    engine.instances().create(machine("vm", &[])).unwrap();
    engine.instances().attach_device("vm", &wanted("gpu")).unwrap();
    let set = active(&rig);
    assert!(set.len() == 1 && set[0] >= 7, "{set:?}");
    let vm = engine.instances().find("vm").unwrap();
    assert_eq!(vm.options.fabric_set, Some(set[0]));
    let gpu = engine.instances().guest_addresses(&vm);
    let model::GuestSource::Function(gpu) = gpu[0].0 else { panic!("{gpu:?}") };
    engine.instances().detach_device("vm", &gpu.to_string(), Duration::from_secs(5)).unwrap();
    assert_eq!(active(&rig), [0u32; 0]);
    assert_eq!(engine.instances().find("vm").unwrap().options.fabric_set, None);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("deleted");
}

/// Fabric Manager is another program: what it refuses rolls the claim back, and one that has ended keeps no GPU from the host.
#[test]
fn a_fabric_manager_that_refuses_is_told() {
    let (rig, engine) = board();
    let switch = |to: bool| {
        let is =
            move |step: &Step| matches!(step, Step::SetFabricSet { to: one, .. } if *one == to);
        When::Step(Box::new(is))
    };
    rig.host.fault(switch(true), Fault::Refuse);
    let failed = engine.claims().claim(&request("one", &["2xgpu"])).unwrap_err();
    assert!(failed.message.contains("activate fabric set 3"), "{failed:?}");
    rig.assert_untouched("rolled back");
    claim(&engine, "one", &["2xgpu"]);
    rig.host.fault(switch(false), Fault::Refuse);
    let notes = engine.claims().release("job/one", None).unwrap();
    assert!(notes.iter().any(|note| note.contains("fabric set 3")), "{notes:?}");
    assert!(engine.claims().all().unwrap().is_empty());
    assert_eq!(rig.host.snapshot().functions, rig.before.functions);
    // A set that is active is used as it is, and stays so.
    claim(&engine, "one", &["2xgpu"]);
    engine.claims().release("job/one", None).unwrap();
    assert_eq!(active(&rig), [3]);
}

#[test]
fn killed_at_any_boundary_a_set_is_active_with_its_machine_only() {
    let mut boundary = 0;
    loop {
        let (rig, engine) = board();
        drop(engine);
        let lived = rig.killed_at(boundary, |engine| {
            engine.instances().create(machine("vm", &["2xgpu"])).unwrap();
            engine.instances().stop("vm").unwrap();
            engine.instances().start("vm").unwrap();
            engine.instances().delete("vm").unwrap();
        });
        let (engine, _) = rig.open_recovered();
        let why = format!("killed at boundary {boundary}");
        let runs = !rig.launcher.running().is_empty();
        assert_eq!(active(&rig), if runs { vec![3] } else { vec![] }, "{why}");
        if engine.instances().find("vm").is_ok() {
            engine.instances().delete("vm").unwrap();
        }
        rig.assert_untouched(&why);
        if lived {
            break;
        }
        boundary += 1;
    }
    assert!(boundary > 60, "only {boundary} boundaries");
}

/// What the guest ejects, or what no longer answers, does not leave the set active for others, nor take it from the machine.
#[test]
fn a_set_is_active_until_its_machine_ends_whatever_happens_to_one_gpu() {
    let (rig, engine) = board();
    engine.instances().create(machine("vm", &["2xgpu"])).unwrap();
    let vm = engine.instances().find("vm").unwrap();
    assert_eq!(vm.options.fabric_set, Some(3));
    for gpu in ["0000:11:00.0", "0000:12:00.0"] {
        assert!(rig.launcher.eject(vm.id, at(gpu)));
        engine.check_claims().unwrap();
        assert_eq!(active(&rig), [3], "{gpu} was ejected");
    }
    engine.instances().stop("vm").unwrap();
    assert_eq!(active(&rig), [0u32; 0]);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("deleted");
    // A set that was active before is used, shown, and stays.
    claim(&engine, "one", &["2xgpu"]);
    rig.host.fault(
        When::Step(Box::new(|step| matches!(step, Step::SetFabricSet { to: false, .. }))),
        Fault::Refuse,
    );
    engine.claims().release("job/one", None).unwrap();
    engine.instances().create(machine("vm", &["2xgpu"])).unwrap();
    assert_eq!(engine.instances().find("vm").unwrap().options.fabric_set, Some(3));
    engine.instances().delete("vm").unwrap();
    assert_eq!(active(&rig), [3]);
}

#[test]
fn a_stopped_machine_keeps_only_what_is_a_set() {
    let (rig, engine) = board();
    engine.instances().create(machine("vm", &["4xgpu"])).unwrap();
    engine.instances().stop("vm").unwrap();
    let change = engine::ChangeInstance {
        machine: engine::ChangeMachine {
            devices: Some(vec![wanted("2xgpu")]),
            ..engine::ChangeMachine::default()
        },
        ..engine::ChangeInstance::default()
    };
    let refused = engine.instances().change("vm", change).unwrap_err();
    assert!(refused.message.contains("no fabric set"), "{refused:?}");
    engine.instances().start("vm").unwrap();
    assert_eq!(active(&rig), [1]);
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("deleted");
}
