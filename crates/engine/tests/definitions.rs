//! mdevctl definitions of mediated devices that claims create: written on request, and removed with the claim.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{ClaimRequest, ClaimStep, Engine};
use model::{Claim, ClaimState, Code, Host, MdevDefinition, Step};
use sim::{Fault, When};
use support::{Rig, at, request};
use uuid::Uuid;

const PARENT: &str = "0000:03:00.0";
const PROFILE: &str = "profile=A100-4C,nvidia/vgpu_params=frame_rate_limiter=0";

fn defined(owner: &str) -> ClaimRequest {
    ClaimRequest { define: true, ..request(owner, &[PROFILE]) }
}

fn claim(engine: &Engine, request: &ClaimRequest) -> (Claim, Uuid) {
    let claim = engine.claims().claim(request).unwrap().claim;
    let uuid = claim.parts[0].partition.as_ref().unwrap().mdev().unwrap();
    (claim, uuid)
}

/// Changes a definition, as `mdevctl modify` does.
fn modify(rig: &Rig, uuid: Uuid) -> MdevDefinition {
    let all = rig.host.mdev_definitions();
    let there = all.into_iter().find(|one| one.uuid == uuid).unwrap();
    let MdevDefinition { parent: address, uuid, type_id, attributes } = there;
    rig.host.meddle(&Step::UndefineMdev { address, uuid, type_id, attributes }).unwrap();
    define(rig, uuid, "another type")
}

fn define(rig: &Rig, uuid: Uuid, type_id: &str) -> MdevDefinition {
    let (address, type_id, attributes) = (at(PARENT), type_id.to_owned(), Vec::new());
    let step = Step::DefineMdev { address, uuid, type_id, attributes };
    rig.host.meddle(&step).unwrap();
    step.definition().unwrap()
}

#[test]
fn a_definition_lasts_as_long_as_its_claim() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let (_, uuid) = claim(&engine, &defined("one"));
    let written = rig.host.snapshot().definitions[&uuid].clone();
    assert_eq!((written.parent, written.type_id.as_str()), (at(PARENT), "nvidia-468"));
    let params = ("nvidia/vgpu_params".to_owned(), "frame_rate_limiter=0".to_owned());
    assert_eq!(written.attributes, [params]);
    assert!(
        !engine.claims().claim(&defined("one")).unwrap().new,
        "claiming is idempotent per owner and request"
    );
    engine.claims().unprepare("job/one").unwrap();
    rig.assert_untouched("after it was unprepared");
    engine.claims().prepare("job/one", &engine::Access::default()).unwrap();
    assert!(rig.host.snapshot().definitions.contains_key(&uuid), "preparing again writes it again");
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
    claim(&engine, &ClaimRequest { define: false, ..defined("one") });
    assert!(rig.host.snapshot().definitions.is_empty(), "the request did not ask for it");
}

#[test]
fn definitions_that_another_tool_made_or_changed_stay() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let (_, uuid) = claim(&engine, &defined("one"));
    let theirs = modify(&rig, uuid);
    engine.claims().release("job/one", None).unwrap();
    let now = rig.host.snapshot();
    assert_eq!(now.definitions[&uuid], theirs, "another tool changed it");
    assert_eq!(now.mdevs, rig.before.mdevs, "the device itself is removed anyway");
    let ended = engine.journal(1).unwrap().remove(0);
    assert!(ended.error.unwrap().contains("modified by another tool since"));
    // A device with an existing definition is created as defined, and the definition stays.
    let theirs = define(&rig, Uuid::from_u128(7), "nvidia-468");
    let want = format!("mdev={}", theirs.uuid);
    let (again, _) =
        claim(&engine, &ClaimRequest { define: true, ..request("two", &[want.as_str()]) });
    assert_eq!(again.state, ClaimState::Prepared);
    engine.claims().release("job/two", None).unwrap();
    let now = rig.host.snapshot();
    assert_eq!((now.definitions.get(&theirs.uuid), &now.mdevs), (Some(&theirs), &rig.before.mdevs));
}

#[test]
fn only_mediated_devices_can_be_defined() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let nic = ClaimRequest { define: true, ..request("one", &["0000:05:00.0"]) };
    let refusal = engine.claims().claim(&nic).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState, "{refusal}");
    assert!(refusal.message.contains("mdevctl"), "{refusal}");
    rig.assert_untouched("after the refusal");
}

#[test]
fn a_claim_is_rolled_back_if_its_definition_cannot_be_written() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let writing = |step: &Step| matches!(step, Step::DefineMdev { .. });
    rig.host.fault(When::Step(Box::new(writing)), Fault::Refuse);
    assert_eq!(engine.claims().claim(&defined("one")).unwrap_err().code, Code::StepFailed);
    rig.assert_untouched("after the refusal");
    // If the definition cannot be removed, the device is restored anyway, and the removal is retried.
    claim(&engine, &defined("one"));
    let removing = |step: &Step| matches!(step, Step::UndefineMdev { .. });
    rig.host.fault(When::Step(Box::new(removing)), Fault::Refuse);
    assert_eq!(engine.claims().release("job/one", None).unwrap_err().code, Code::UndoFailed);
    assert_eq!(rig.host.snapshot().mdevs, rig.before.mdevs);
    engine.reconcile().unwrap();
    rig.assert_untouched("after it was tried again");
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn a_definition_outlasts_a_boot_and_is_removed_with_its_claim() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let (_, uuid) = claim(&engine, &defined("one"));
    claim(&engine, &defined("two"));
    drop(engine);
    rig.host.reboot();
    let (engine, _) = rig.open_recovered();
    let now = rig.host.snapshot();
    assert_eq!((now.mdevs.len(), now.definitions.len()), (0, 2));
    assert!(engine.claims().all().unwrap().iter().all(|claim| claim.state == ClaimState::Reserved));
    // It still belongs to the claim, whether that is prepared again or only released.
    engine.claims().prepare("job/one", &engine::Access::default()).unwrap();
    assert!(rig.host.snapshot().mdevs.contains_key(&uuid));
    for owner in ["job/one", "job/two"] {
        engine.claims().release(owner, None).unwrap();
    }
    assert!(rig.host.snapshot().definitions.is_empty());
}

#[test]
fn clearing_an_orphan_of_an_earlier_boot_removes_its_definition() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    claim(&engine, &defined("one"));
    let removing = |step: &Step| matches!(step, Step::UndefineMdev { .. });
    rig.host.fault(When::Step(Box::new(removing)), Fault::Refuse);
    engine.claims().release("job/one", None).unwrap_err();
    drop(engine);
    rig.host.reboot();
    let (engine, _) = rig.open_recovered();
    assert!(rig.host.snapshot().definitions.is_empty(), "no claim has it");
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn a_reserved_claim_is_defined_when_it_is_prepared() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let (_, uuid) = claim(&engine, &ClaimRequest { step: ClaimStep::Reserve, ..defined("one") });
    assert!(rig.host.snapshot().definitions.is_empty());
    engine.claims().prepare("job/one", &engine::Access::default()).unwrap();
    assert!(rig.host.snapshot().definitions.contains_key(&uuid));
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
}
