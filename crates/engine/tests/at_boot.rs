//! Claims whose devices are on the boot list: as long as the claim lasts, over reboots.

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
fn a_boot_list_entry_lasts_as_long_as_its_claim() {
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
        "claiming is idempotent per owner and request"
    );
    let (_, notes) = engine.claims().unprepare("job/one").unwrap();
    assert_eq!(notes, [TAKES_EFFECT]);
    rig.assert_untouched("after it was unprepared");
    engine.claims().prepare("job/one", &Access::default()).unwrap();
    assert_eq!(listed(&rig), vfio, "preparing again puts it back on the list");
    assert_eq!(engine.claims().release("job/one", None).unwrap(), [TAKES_EFFECT]);
    rig.assert_untouched("after the release");
    assert!(engine.journal(1).unwrap()[0].error.is_none(), "the note is not an error");
}

#[test]
fn a_boot_list_entry_outlasts_a_boot_and_is_removed_with_its_claim() {
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
fn entries_that_another_tool_made_or_changed_stay() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let step = |driver: &str| Step::AddToBootList {
        address: at(NIC),
        vendor: "8086".parse().unwrap(),
        device: "10d3".parse().unwrap(),
        driver: driver.into(),
    };
    // An identical entry made by hand does not belong to the claim.
    rig.host.meddle(&step("vfio-pci")).unwrap();
    let theirs = listed(&rig);
    engine.claims().claim(&wanted("one", NIC)).unwrap();
    engine.claims().release("job/one", None).unwrap();
    assert_eq!(listed(&rig), theirs);
    // A different entry conflicts, and the claim is rolled back.
    rig.host.meddle(&step("vfio-pci").inverse().unwrap()).unwrap();
    rig.host.meddle(&step("pci-stub")).unwrap();
    let theirs = listed(&rig);
    assert_eq!(engine.claims().claim(&wanted("two", NIC)).unwrap_err().code, Code::StepFailed);
    assert_eq!(listed(&rig), theirs);
    assert_eq!(rig.host.snapshot().functions, rig.before.functions);
    // An entry that was changed later stays; the device is restored.
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
fn only_whole_devices_can_be_on_the_boot_list() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let refusal = engine.claims().claim(&wanted("one", "profile=A100-4C")).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState, "{refusal}");
    rig.assert_untouched("after the refusal");
}

#[test]
fn a_claim_is_rolled_back_if_the_boot_list_cannot_be_written() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let writing = |step: &Step| matches!(step, Step::AddToBootList { .. });
    rig.host.fault(When::Step(Box::new(writing)), Fault::Refuse);
    assert_eq!(engine.claims().claim(&wanted("one", GPU)).unwrap_err().code, Code::StepFailed);
    rig.assert_untouched("after the refusal");
    // If the entry cannot be removed, the device is restored anyway, and the removal is retried.
    engine.claims().claim(&wanted("one", GPU)).unwrap();
    let removing = |step: &Step| matches!(step, Step::RemoveFromBootList { .. });
    rig.host.fault(When::Step(Box::new(removing)), Fault::Refuse);
    assert_eq!(engine.claims().release("job/one", None).unwrap_err().code, Code::UndoFailed);
    assert_eq!(rig.host.snapshot().functions, rig.before.functions);
    engine.reconcile().unwrap();
    rig.assert_untouched("after it was tried again");
}

#[test]
fn after_a_crash_at_any_boundary_the_boot_list_matches_the_claims() {
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
