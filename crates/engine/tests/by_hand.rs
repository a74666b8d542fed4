//! Devices that are bound, reset and unbound by hand, also when the daemon dies meanwhile or a step fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::Engine;
use model::{ClaimState, Code, Step};
use sim::{Fault, When};
use support::{GPU, NIC, Rig, at};

fn resetting() -> When {
    When::Step(Box::new(|step| matches!(step, Step::Reset { .. })))
}

/// Releases the claims that a crash left; each has a named owner.
fn release_all(engine: &Engine) {
    for claim in engine.claims().all().unwrap() {
        assert_eq!((claim.owner.kind.as_str(), claim.owner.id.as_str()), ("device", NIC));
        engine.claims().release(&claim.id.to_string(), None).unwrap();
    }
}

#[test]
fn a_reset_that_a_crash_interrupts_leaves_a_claim_with_an_end_or_none() {
    let mut survived = false;
    for boundary in 0..200 {
        let rig = Rig::new();
        survived = rig.killed_at(boundary, |engine| {
            engine.recover().unwrap();
            engine.devices().reset(NIC, None, false).unwrap();
        });
        let (engine, _) = rig.open_recovered();
        for claim in engine.claims().all().unwrap() {
            assert_eq!(claim.state, ClaimState::Prepared, "boundary {boundary}");
            assert!(claim.expires.is_some(), "boundary {boundary}: it would stay forever");
        }
        release_all(&engine);
        rig.assert_untouched(&format!("boundary {boundary}"));
        if survived {
            break;
        }
    }
    assert!(survived, "there are more boundaries");
}

#[test]
fn a_bound_device_stays_bound_when_a_crash_interrupts_its_reset() {
    let mut survived = false;
    for boundary in 0..40 {
        let rig = Rig::new();
        let (engine, _) = rig.open_recovered();
        engine.devices().bind(GPU, None, None, false).unwrap();
        let bound = rig.host.snapshot();
        drop(engine);
        survived = rig.killed_at(boundary, |engine| {
            engine.recover().unwrap();
            engine.devices().reset(GPU, None, false).unwrap();
        });
        let (engine, _) = rig.open_recovered();
        assert_eq!(engine.claims().all().unwrap()[0].state, ClaimState::Prepared);
        assert_eq!(rig.host.snapshot(), bound, "boundary {boundary}");
        assert_eq!(engine.devices().unbind(GPU, None).unwrap(), Vec::<String>::new());
        rig.assert_untouched(&format!("boundary {boundary}"));
        if survived {
            break;
        }
    }
    assert!(survived, "there are more boundaries");
}

#[test]
fn a_reset_that_fails_is_told_and_rolled_back() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    rig.host.fault(resetting(), Fault::Refuse);
    let refusal = engine.devices().reset(GPU, None, false).unwrap_err();
    assert_eq!(refusal.code, Code::StepFailed, "{refusal}");
    rig.assert_untouched("a failed reset of a device that was not bound");

    engine.devices().bind(GPU, None, None, false).unwrap();
    let bound = rig.host.snapshot();
    rig.host.fault(resetting(), Fault::Refuse);
    let refusal = engine.devices().reset(GPU, None, false).unwrap_err();
    assert_eq!(refusal.code, Code::StepFailed, "{refusal}");
    assert_eq!(rig.host.snapshot(), bound);
    assert_eq!(engine.claims().all().unwrap()[0].state, ClaimState::Prepared);
    engine.devices().unbind(GPU, None).unwrap();
    rig.assert_untouched("after the unbind");
}

#[test]
fn a_device_in_use_is_neither_reset_nor_unbound() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    engine.devices().bind(GPU, None, None, false).unwrap();
    let group = engine.inventory().unwrap().functions[&at(GPU)].iommu_group.unwrap();
    assert!(rig.host.open_group(group, 4711));
    for refusal in [
        engine.devices().reset(GPU, None, false).unwrap_err(),
        engine.devices().unbind(GPU, None).unwrap_err(),
    ] {
        assert_eq!(refusal.code, Code::InUse, "{refusal}");
        assert!(refusal.message.contains("4711"), "{refusal}");
    }
    rig.host.let_go(4711);
    engine.devices().unbind(GPU, None).unwrap();
    rig.assert_untouched("after the unbind");
}
