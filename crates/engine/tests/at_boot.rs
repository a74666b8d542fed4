//! Devices that a claim has reserved for the next boots too: on the list for as long as the claim lasts, in whichever
//! boot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{Access, ClaimRequest, ClaimStep, Engine};
use model::boot_list::{BootListEntry, TAKES_EFFECT};
use model::{ClaimState, Code, Step};
use sim::{Fault, When};
use support::{GPU, GPU_AUDIO, NIC, Rig, at, request};

fn wanted(owner: &str, device: &str) -> ClaimRequest {
    ClaimRequest { at_boot: true, ..request(owner, &[device]) }
}

fn listed(rig: &Rig) -> Vec<String> {
    rig.host.snapshot().boot_list.values().map(BootListEntry::to_string).collect()
}

#[test]
fn a_reservation_comes_and_goes_with_its_claim() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let planned = engine.claims().dry_run(&wanted("one", GPU)).unwrap().1;
    let reserving = |step: &&Step| matches!(step, Step::AddToBootList { .. });
    assert_eq!(planned.steps().filter(reserving).count(), 2, "with its audio function");
    engine.claims().claim(&wanted("one", GPU)).unwrap();
    let vfio = listed(&rig);
    assert!(vfio[0].starts_with(GPU) && vfio[0].ends_with("vfio-pci"), "{vfio:?}");
    assert!(vfio[1].starts_with(GPU_AUDIO), "{vfio:?}");
    assert!(
        !engine.claims().claim(&wanted("one", GPU)).unwrap().new,
        "the same words are the same claim"
    );
    let (_, notes) = engine.claims().unprepare("job/one").unwrap();
    assert_eq!(notes, [TAKES_EFFECT]);
    rig.assert_untouched("after it was unprepared");
    engine.claims().prepare("job/one", &Access::default()).unwrap();
    assert_eq!(listed(&rig), vfio, "it is a part of the claim");
    assert_eq!(engine.claims().release("job/one", None).unwrap(), [TAKES_EFFECT]);
    rig.assert_untouched("after the release");
    assert!(engine.journal(1).unwrap()[0].error.is_none(), "that is no error");
}

#[test]
fn it_outlasts_the_boot_and_goes_with_its_claim_then() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    engine.claims().claim(&wanted("one", GPU)).unwrap();
    drop(engine);
    rig.host.reboot();
    let (engine, _) = rig.open_recovered();
    assert_eq!(engine.claims().all().unwrap()[0].state, ClaimState::Reserved);
    assert_eq!(listed(&rig).len(), 2, "the claim still has it");
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release in another boot");
}

#[test]
fn what_others_reserved_or_changed_stays() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let step = |driver: &str| Step::AddToBootList {
        address: at(NIC),
        vendor: "8086".parse().unwrap(),
        device: "10d3".parse().unwrap(),
        driver: driver.into(),
    };
    // Somebody reserved it by hand, in the same way: it is not the claim's.
    rig.host.meddle(&step("vfio-pci")).unwrap();
    let theirs = listed(&rig);
    engine.claims().claim(&wanted("one", NIC)).unwrap();
    engine.claims().release("job/one", None).unwrap();
    assert_eq!(listed(&rig), theirs);
    // In another way: it is in the way, and the claim is undone.
    rig.host.meddle(&step("vfio-pci").inverse().unwrap()).unwrap();
    rig.host.meddle(&step("pci-stub")).unwrap();
    let theirs = listed(&rig);
    assert_eq!(engine.claims().claim(&wanted("two", NIC)).unwrap_err().code, Code::StepFailed);
    assert_eq!(listed(&rig), theirs);
    assert_eq!(rig.host.snapshot().functions, rig.before.functions);
    // Changed after it was written: the device comes back, the line stays.
    rig.host.meddle(&step("pci-stub").inverse().unwrap()).unwrap();
    engine.claims().claim(&wanted("three", NIC)).unwrap();
    rig.host.meddle(&step("vfio-pci").inverse().unwrap()).unwrap();
    rig.host.meddle(&step("pci-stub")).unwrap();
    let notes = engine.claims().release("job/three", None).unwrap();
    assert!(notes[0].contains("modified by another tool since"), "{notes:?}");
    assert_eq!(listed(&rig), theirs);
    assert_eq!(rig.host.snapshot().functions, rig.before.functions);
}

#[test]
fn only_devices_as_a_whole_can_be_reserved() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let refusal = engine.claims().claim(&wanted("one", "profile=A100-4C")).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidRequest, "{refusal}");
    rig.assert_untouched("after the refusal");
}

#[test]
fn a_list_that_cannot_be_written_undoes_the_claim() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let writing = |step: &Step| matches!(step, Step::AddToBootList { .. });
    rig.host.fault(When::Step(Box::new(writing)), Fault::Refuse);
    assert_eq!(engine.claims().claim(&wanted("one", GPU)).unwrap_err().code, Code::StepFailed);
    rig.assert_untouched("after the refusal");
    // One that cannot be taken off keeps nobody from the device, and is tried again.
    engine.claims().claim(&wanted("one", GPU)).unwrap();
    let removing = |step: &Step| matches!(step, Step::RemoveFromBootList { .. });
    rig.host.fault(When::Step(Box::new(removing)), Fault::Refuse);
    assert_eq!(engine.claims().release("job/one", None).unwrap_err().code, Code::UndoFailed);
    assert_eq!(rig.host.snapshot().functions, rig.before.functions);
    engine.reconcile().unwrap();
    rig.assert_untouched("after it was tried again");
}

#[test]
fn killed_at_any_boundary_the_list_is_as_the_claims_are() {
    let life = |engine: &Engine| {
        engine.claims().claim(&wanted("one", GPU)).unwrap();
        engine.claims().release("job/one", None).unwrap();
    };
    for boundary in 0.. {
        let rig = Rig::new();
        let lived = rig.killed_at(boundary, life);
        let (engine, _) = rig.open_recovered();
        for claim in engine.claims().all().unwrap() {
            assert!(claim.is_at_boot());
            engine.claims().release(&claim.id.to_string(), None).unwrap();
        }
        rig.assert_untouched(&format!("killed at boundary {boundary}"));
        if lived {
            assert!(boundary > 20, "{boundary} boundaries are too few to be all");
            return;
        }
    }
}

#[test]
fn a_reserved_claim_is_listed_when_it_is_prepared() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    engine
        .claims()
        .claim(&ClaimRequest { step: ClaimStep::Reserve, ..wanted("one", NIC) })
        .unwrap();
    assert!(listed(&rig).is_empty());
    engine.claims().prepare("job/one", &Access::default()).unwrap();
    assert_eq!(listed(&rig).len(), 1);
}
