//! What another tool undid during a claim is told at its release.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{Access, ClaimRequest, ClaimStep};
use model::{Code, Step};
use support::{GPU, NIC, Rig, at, claim, request, wish};

/// `driverctl unset-override`, or `echo > driver_override`.
#[test]
fn a_cleared_override_is_told_with_and_without_the_native_driver() {
    for rebound in [false, true] {
        let rig = Rig::new();
        let (engine, _) = rig.open_recovered();
        claim(&engine, "one", &[NIC]);
        let address = at(NIC);
        let native = rig.before.functions[&address].driver.clone().unwrap();
        let vfio = Some("vfio-pci".to_owned());
        rig.host.meddle(&Step::SetOverride { address, from: vfio, to: None }).unwrap();
        if rebound {
            rig.host.meddle(&Step::Unbind { address, driver: "vfio-pci".into() }).unwrap();
            rig.host.meddle(&Step::Return { address, driver: native.clone() }).unwrap();
        }
        let notes = engine.claims().release("job/one", None).unwrap().join("; ");
        assert!(notes.contains("another tool cleared its driver_override"), "{notes}");
        assert_eq!(notes.contains(&format!("bound it to {native}")), rebound, "{notes}");
        rig.assert_untouched("after the release");
    }
}

#[test]
fn nothing_is_told_of_what_nobody_else_did() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    claim(&engine, "one", &[NIC, GPU]);
    assert_eq!(engine.claims().release("job/one", None).unwrap(), Vec::<String>::new());
}

/// The ways out of a claim of an instance, and of a reserved one, are those that lead out.
#[test]
fn an_instances_device_is_freed_with_the_instance() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["gpu", "nic"])).unwrap();
    let id = engine.instances().find("vm").unwrap().id;
    for refusal in [
        engine.devices().unbind(NIC, None).unwrap_err(),
        engine.devices().reset(NIC, None, false).unwrap_err(),
        engine.claims().release(&format!("instance/{id}"), None).unwrap_err(),
    ] {
        assert!(refusal.remedy.contains("handover instance detach vm "), "{refusal}");
        assert!(!refusal.remedy.contains("--owner"), "{refusal}");
    }
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("after its removal");
}

#[test]
fn a_reserved_nic_in_use_is_prepared_with_consent() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..request("one", &[NIC]) };
    engine.claims().claim(&reserve).unwrap();
    assert!(rig.host.use_network(at(NIC), "the host's default route"));
    let consent = engine::Consent::options(false, false);
    let access = Access { consent, ..Access::default() };
    let refusal = engine.claims().prepare("job/one", &access).unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.remedy.contains("`handover prepare job/one --force-network`"), "{refusal}");
    let consent = engine::Consent::options(false, true);
    engine.claims().prepare("job/one", &Access { consent, ..Access::default() }).unwrap();
}
