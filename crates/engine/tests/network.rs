//! Claims of network devices that the host uses: refused, unless the request names them and consents.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{Access, ClaimRequest, ClaimStep, Consent};
use model::{Code, HolderKind, Host as _};
use support::{NIC, Rig, at, register, request, wish};

fn forced(id: &str, wants: &[&str]) -> ClaimRequest {
    ClaimRequest { force_network: true, ..request(id, wants) }
}

/// A rig whose network card the host uses.
fn busy() -> Rig {
    let rig = Rig::ready();
    assert!(rig.host.use_network(at(NIC), "port of ovs-system"));
    rig
}

#[test]
fn a_nic_in_use_is_refused_with_the_reason_and_the_way_out() {
    let rig = busy();
    let (engine, _) = rig.open_recovered();
    let refusal = engine.claims().claim(&request("one", &[NIC])).unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.message.contains("port of ovs-system on eth0"), "{refusal}");
    assert!(refusal.remedy.contains(&format!("claim {NIC} with --force-network")), "{refusal:?}");
    assert!(!refusal.remedy.contains("name the device"), "{refusal:?}");
    assert!(engine.claims().all().unwrap().is_empty());
    rig.assert_untouched("after the refusal");
}

#[test]
fn a_nic_in_use_is_not_available() {
    let rig = busy();
    let (engine, _) = rig.open_recovered();
    let all = |engine: &engine::Engine| -> Vec<model::Address> {
        let all = engine.devices().available(&engine::AvailableFilter::All).unwrap();
        all.into_iter().map(|device| device.address).collect()
    };
    assert!(!all(&engine).contains(&at(NIC)));
    rig.host.end_network(at(NIC));
    assert!(all(&engine).contains(&at(NIC)));
}

#[test]
fn consent_takes_a_nic_that_is_named() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    register(&engine, "uplink", NIC).unwrap();
    for want in [NIC, "uplink"] {
        rig.host.end_network(at(NIC));
        rig.host.use_network(at(NIC), "the host's default route");
        engine.claims().claim(&forced("one", &[want])).unwrap();
        assert!(rig.host.holders(&[at(NIC)]).unwrap().is_empty(), "the interface is gone");
        engine.claims().release("job/one", None).unwrap();
        rig.assert_untouched("after the release");
    }
}

#[test]
fn consent_takes_no_nic_that_was_chosen_by_kind() {
    let rig = busy();
    let (engine, _) = rig.open_recovered();
    for want in ["nic", "8086:10d3", "3xnic"] {
        let refusal = engine.claims().claim(&forced("one", &[want])).unwrap_err();
        assert!(!refusal.remedy.contains("do without it, claim"), "{want}: {refusal:?}");
    }
    let refusal = engine.claims().claim(&forced("one", &["nic"])).unwrap_err();
    assert_eq!(refusal.code, Code::InsufficientResources);
    assert!(refusal.message.contains("port of ovs-system"), "{refusal}");
    assert!(refusal.remedy.contains(&format!("claim {NIC} with --force-network")), "{refusal:?}");
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn neither_option_consents_to_what_the_other_does() {
    let rig = busy();
    let (engine, _) = rig.open_recovered();
    let evict = ClaimRequest { evict: true, ..request("one", &[NIC]) };
    let refusal = engine.claims().claim(&evict).unwrap_err();
    assert!(refusal.message.contains("port of ovs-system"), "{refusal}");
    rig.host.hold(model::Holder {
        address: at(NIC),
        kind: HolderKind::Process,
        pid: Some(4711),
        started: Some(1),
        program: Some("dpdk".into()),
        user: "dpdk (pid 4711)".into(),
        by: "/dev/uio0".into(),
        mdev: None,
        interface: None,
    });
    let refusal = engine.claims().claim(&forced("one", &[NIC])).unwrap_err();
    assert!(refusal.message.contains("dpdk (pid 4711)"), "{refusal}");
    assert!(refusal.remedy.contains("--evict"), "{refusal:?}");
    let both = ClaimRequest { evict: true, ..forced("one", &[NIC]) };
    engine.claims().claim(&both).unwrap();
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
}

/// The host can begin to use a NIC after it was reserved.
#[test]
fn preparing_asks_again() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..request("one", &[NIC]) };
    engine.claims().claim(&reserve).unwrap();
    rig.host.use_network(at(NIC), "NFS / from 192.168.1.2");
    let refusal = engine.claims().prepare("job/one", &Access::default()).unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.message.contains("NFS / from 192.168.1.2"), "{refusal}");
    let access = Access { consent: Consent::options(true, false), ..Access::default() };
    assert_eq!(engine.claims().prepare("job/one", &access).unwrap_err().code, Code::InUse);
    let access = Access { consent: Consent::options(false, true), ..Access::default() };
    engine.claims().prepare("job/one", &access).unwrap();
    // The machine's use ends with the claim, and the network's has ended with the interface.
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
}

#[test]
fn preparing_a_claim_by_kind_does_not_take_the_network() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..forced("one", &["nic"]) };
    engine.claims().claim(&reserve).unwrap();
    rig.host.use_network(at(NIC), "port of br0");
    let access = Access { consent: Consent::options(false, true), ..Access::default() };
    assert_eq!(engine.claims().prepare("job/one", &access).unwrap_err().code, Code::InUse);
}

#[test]
fn an_instance_has_no_such_option() {
    let rig = busy();
    let (engine, _) = rig.open_recovered();
    let refusal = engine.instances().create(wish("vm", &["nic"])).unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(!refusal.remedy.contains("--force-network"), "{refusal:?}");
    assert!(refusal.remedy.contains("`ip route show table all dev eth0`"), "{refusal:?}");
}

/// A network manager configures an interface as soon as it is back: that must not keep a return from ending.
#[test]
fn returning_a_nic_ends_although_the_network_uses_it_again() {
    let rig = busy();
    let (engine, _) = rig.open_recovered();
    let returned = engine.devices().return_unclaimed(&[at(NIC)]).unwrap();
    assert_eq!(returned[0].reason, None, "{returned:?}");
}
