//! Claims by people and programs: what they get, that it is all or nothing, and that the host gets back what it had.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use engine::{Access, ClaimRequest, ClaimStep, DeviceState, Engine};
use model::{Address, Attachment, Claim, ClaimState, Code, Holder, Owner, Step};
use sim::{Fault, When};
use support::{GPU, GPU_AUDIO, NIC, Rig, at, claim, owner, refused, register, request, wish};

#[test]
fn a_claim_is_prepared_and_given_back_without_a_machine() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let made = engine.claim(&request("one", &[GPU])).unwrap();
    assert!(made.new);
    let claim = made.claim;
    assert_eq!(claim.state, ClaimState::Prepared);
    for address in [GPU, GPU_AUDIO] {
        let state = &rig.host.snapshot().functions[&at(address)];
        assert_eq!(state.driver.as_deref(), Some("vfio-pci"), "{address}");
    }
    let attach = Attachment::of(&claim);
    assert_eq!(attach.qemu.len(), 2, "{attach:?}");
    assert!(attach.qemu[0].contains("\"host\":\"0000:01:00.0\""), "{attach:?}");
    assert!(attach.libvirt[1].contains("function='0x1'"), "{attach:?}");
    assert_eq!(attach.cdi, format!("handover.dev/claim={}", claim.id));
    engine.release_claim("job/one", None).unwrap();
    rig.assert_untouched("after the release");
    assert!(engine.claims().unwrap().is_empty());
}

#[test]
fn the_same_words_of_the_same_owner_are_the_same_claim() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..request("one", &["nic"]) };
    let first = engine.claim(&reserve).unwrap();
    rig.assert_untouched("reserved only");
    let again = engine.claim(&reserve).unwrap();
    assert_eq!((again.new, again.claim.id), (false, first.claim.id));
    let prepared = engine.claim(&request("one", &["nic"])).unwrap();
    assert_eq!((prepared.new, prepared.claim.state), (false, ClaimState::Prepared));
    let again = engine.prepare_claim("job/one", &Access::default()).unwrap();
    assert_eq!(again.state, ClaimState::Prepared);
    assert_eq!(engine.unprepare_claim("job/one").unwrap().0.state, ClaimState::Reserved);
    rig.assert_untouched("unprepared");
    assert_eq!(engine.unprepare_claim("job/one").unwrap().0.state, ClaimState::Reserved);
    assert_eq!(refused(&engine, "two", &[NIC]).code, Code::InUse);
    engine.release_claim("job/one", Some(&owner("one"))).unwrap();
    assert_eq!(engine.release_claim("job/one", None).unwrap_err().code, Code::NotFound);
}

#[test]
fn what_was_claimed_another_way_is_not_said_to_be_the_same() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let mine = ClaimRequest { uid: Some(1000), ..request("one", &[GPU]) };
    let first = engine.claim(&mine).unwrap();
    assert_eq!(engine.claim(&mine).unwrap().claim.id, first.claim.id);
    let other = ClaimRequest { uid: Some(1001), ..mine.clone() };
    let refusal = engine.claim(&other).unwrap_err();
    assert_eq!(refusal.code, Code::Conflict);
    assert!(refusal.message.contains("uid 1000") && refusal.remedy.contains("unprepare"));
    let alone = ClaimRequest { alone: true, ..mine };
    assert_eq!(engine.claim(&alone).unwrap_err().code, Code::InUse, "the whole card is claimed");
    engine.unprepare_claim("job/one").unwrap();
    assert_eq!(engine.claim(&other).unwrap().claim.id, first.claim.id);
    engine.release_claim("job/one", None).unwrap();
    rig.assert_untouched("after the release");
}

#[test]
fn all_or_nothing() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let refusal = refused(&engine, "one", &["3xgpu"]);
    assert_eq!(refusal.code, Code::InsufficientResources);
    assert!(refusal.message.contains("2 of 3"), "{refusal}");
    rig.host.fault(
        When::Step(Box::new(
            |step| matches!(step, Step::Bind { address, .. } if *address == at(NIC)),
        )),
        Fault::Refuse,
    );
    let refusal = refused(&engine, "one", &["2xgpu", "nic"]);
    assert_eq!(refusal.code, Code::StepFailed, "{refusal}");
    rig.assert_untouched("a step failed");
    assert!(engine.claims().unwrap().is_empty());
    assert_eq!(claim(&engine, "one", &["2xgpu", "nic"]).parts.len(), 3);
}

#[test]
fn what_is_named_is_not_taken_by_a_filter() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let claim = claim(&engine, "one", &["gpu", GPU]);
    let heads: Vec<String> = claim.parts.iter().map(|part| part.head.to_string()).collect();
    assert_eq!(heads, ["0000:02:00.0", GPU]);
}

#[test]
fn a_dry_run_tells_the_steps_and_does_none() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let (claim, plan) = engine.dry_run(&request("one", &[NIC])).unwrap();
    assert_eq!(claim.parts[0].head, at(NIC));
    let steps: Vec<String> = plan.steps().map(Step::describe).collect();
    insta::assert_snapshot!(steps.join("\n"), @r"
    load vfio_iommu_type1
    load vfio_pci
    mark 0000:03:00.0 as claimed
    set power control of 0000:03:00.0 to on
    set driver_override of 0000:03:00.0 to vfio-pci
    unbind 0000:03:00.0 from e1000e
    bind 0000:03:00.0 to vfio-pci
    set power control of 0000:03:00.0 to on
    let uid 0 open IOMMU group 4
    ");
    rig.assert_untouched("nothing was done");
    assert!(engine.claims().unwrap().is_empty() && engine.journal(9).unwrap().is_empty());
}

#[test]
fn a_claim_in_use_is_not_pulled_from_under_its_machine() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let made = claim(&engine, "one", &[NIC]);
    assert!(rig.host.open_group(4, 4711));
    let refusal = engine.release_claim(&made.id.to_string(), None).unwrap_err();
    assert_eq!(refusal.code, Code::InUse, "{refusal}");
    rig.host.let_go(4711);
    engine.release_claim(&made.id.to_string(), None).unwrap();
    rig.assert_untouched("after the release");
}

#[test]
fn the_persistence_daemon_lets_go_of_one_gpu_and_has_it_again_afterwards() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    claim(&engine, "one", &["0000:05:00.0"]);
    let units = rig.host.snapshot().units;
    assert_eq!(units.get("nvidia-persistenced.service"), Some(&true), "the unit serves other GPUs");
    engine.release_claim("job/one", None).unwrap();
    rig.assert_untouched("after the release");
}

fn dpdk() -> Holder {
    Holder {
        address: at(NIC),
        pid: Some(4711),
        started: Some(1),
        program: Some("dpdk".into()),
        user: "dpdk (pid 4711)".into(),
        by: "/dev/uio0".into(),
        mdev: None,
    }
}

#[test]
fn a_process_is_asked_to_go_only_where_the_owner_says_so() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    rig.host.hold(dpdk());
    let refusal = refused(&engine, "one", &[NIC]);
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.message.contains("dpdk (pid 4711)") && refusal.remedy.contains("--evict"));
    let evict = ClaimRequest { evict: true, ..request("one", &[NIC]) };
    engine.claim(&evict).unwrap();
    engine.release_claim("job/one", None).unwrap();
    rig.assert_untouched("after the release");
    rig.host.hold_stubbornly(dpdk());
    let refusal = engine.claim(&evict).unwrap_err();
    assert!(refusal.message.contains("dpdk (pid 4711)"), "{refusal}");
    assert!(engine.claims().unwrap().is_empty());
}

#[test]
fn a_bus_reset_is_made_once_and_only_where_all_that_it_hits_is_ours() {
    let rig = Rig::on(sim::gpus());
    let (engine, _) = rig.open_recovered();
    let reset = |id, wants: &[&str]| ClaimRequest { reset: true, ..request(id, wants) };
    engine.claim(&reset("one", &["0000:11:00.0"])).unwrap();
    assert!(rig.host.resets().is_empty(), "its neighbour is somebody else's");
    engine.release_claim("job/one", None).unwrap();
    engine.claim(&reset("both", &["0000:11:00.0", "0000:11:01.0"])).unwrap();
    let resets = rig.host.resets();
    assert!(resets.iter().all(|reset| reset.disturbed.is_empty()), "{resets:?}");
    assert!(!resets.is_empty() && resets.len() <= 2, "{resets:?}");
    engine.release_claim("job/both", None).unwrap();
    rig.assert_untouched("after the release");
}

#[test]
fn a_device_that_is_lost_to_its_bus_is_quarantined_until_a_person_has_looked() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    register(&engine, "nic", NIC).unwrap();
    claim(&engine, "one", &["nic"]);
    rig.host.lose_link(at(NIC));
    let refusal = engine.release_claim("job/one", None).unwrap_err();
    assert_eq!(refusal.code, Code::DeviceWedged, "{refusal}");
    assert_eq!(engine.device("nic").unwrap().state, DeviceState::Quarantined);
    assert_eq!(refused(&engine, "two", &[NIC]).code, Code::DeviceWedged);
    assert_eq!(
        engine.clear_device(NIC).unwrap_err().code,
        Code::DeviceWedged,
        "it is still silent"
    );
    rig.host.regain_link(at(NIC));
    engine.clear_device(NIC).unwrap();
    rig.assert_untouched("after the person");
    assert_eq!(engine.device("nic").unwrap().state, DeviceState::Free);
    assert!(engine.claims().unwrap().is_empty());
}

#[test]
fn another_card_at_the_place_of_one_that_was_pulled_is_not_prepared() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    register(&engine, "nic", NIC).unwrap();
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..request("one", &["nic"]) };
    rig.host.replace_card(at(NIC), "00-00-00-ff-fe-00-00-01");
    engine.delete_device("nic").unwrap();
    register(&engine, "nic", NIC).unwrap();
    engine.claim(&reserve).unwrap();
    rig.host.pull(at(NIC));
    assert_eq!(engine.device("nic").unwrap().state, DeviceState::Absent);
    rig.host.plug(at(NIC), Some("00-00-00-ff-fe-00-00-02"));
    let refusal = engine.prepare_claim("job/one", &Access::default()).unwrap_err();
    assert_eq!(refusal.code, Code::FingerprintChanged, "{refusal}");
}

#[test]
fn a_lease_ends_a_claim_but_not_a_machine() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let short = ClaimRequest { lease: Some(Duration::ZERO), ..request("one", &[NIC]) };
    engine.claim(&short).unwrap();
    assert!(rig.host.open_group(4, 4711));
    let (kept, _) = engine.release_expired().unwrap();
    assert_eq!(kept.len(), 1, "a machine has it");
    rig.host.let_go(4711);
    let (kept, next) = engine.release_expired().unwrap();
    assert!(kept.is_empty() && next.is_none());
    rig.assert_untouched("the lease is over");
    let long = ClaimRequest { lease: Some(Duration::from_secs(3600)), ..request("one", &[NIC]) };
    engine.claim(&long).unwrap();
    assert!(engine.release_expired().unwrap().1.unwrap() > Duration::from_secs(3000));
    engine.renew_claim("job/one", None).unwrap();
    assert_eq!(engine.release_expired().unwrap().1, None);
}

#[test]
fn a_claim_is_its_owners() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let made = claim(&engine, "one", &["nic"]);
    let refusal = engine.release_claim(&made.id.to_string(), Some(&owner("two"))).unwrap_err();
    assert_eq!(refusal.code, Code::Forbidden);
    let instance = engine.create_instance(wish("vm", &["gpu"])).unwrap();
    let claims = engine.claims().unwrap();
    let its = claims.iter().find(|claim| claim.owner == Owner::instance(instance.id)).unwrap();
    let refusal = engine.release_claim(&its.id.to_string(), None).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState, "{refusal}");
    let forged = ClaimRequest::new(Owner::instance(instance.id), request("x", &["nvme"]).wants);
    assert_eq!(engine.claim(&forged).unwrap_err().code, Code::InvalidRequest);
    let refusal = engine.create_instance(wish("other", &["nic"])).unwrap_err();
    assert!(refusal.message.contains("claimed by job/one"), "{refusal}");
}

#[test]
fn eight_devices_take_about_as_long_as_one() {
    let rig = Rig::on(sim::gpus());
    let (engine, _) = rig.open_recovered();
    let bind = Duration::from_millis(100);
    rig.host.set_delay(move |step| match step {
        Step::Bind { .. } => bind,
        _ => Duration::ZERO,
    });
    let began = std::time::Instant::now();
    claim(&engine, "all", &["8xgpu"]);
    // One after another they would take eight times as long; the journal and a busy machine have room here.
    assert!(began.elapsed() < bind * 5, "{:?}", began.elapsed());
}

#[test]
fn a_preparation_that_is_given_up_is_undone() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let slow = Duration::from_millis(300);
    rig.host.set_delay(
        move |step| if matches!(step, Step::Unbind { .. }) { slow } else { Duration::ZERO },
    );
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..request("one", &[NIC]) };
    engine.claim(&reserve).unwrap();
    std::thread::scope(|scope| {
        let preparing = scope.spawn(|| engine.prepare_claim("job/one", &Access::default()));
        std::thread::sleep(slow / 3);
        engine.release_claim("job/one", None).unwrap();
        let refusal = preparing.join().unwrap().unwrap_err();
        assert!(refusal.message.contains("cancelled"), "{refusal}");
    });
    rig.assert_untouched("given up");
    std::thread::scope(|scope| {
        let preparing = scope.spawn(|| engine.claim(&request("two", &[NIC])));
        std::thread::sleep(slow / 3);
        engine.give_up();
        assert!(preparing.join().unwrap().is_err());
    });
    rig.assert_untouched("the daemon ended");
    assert!(engine.claims().unwrap().is_empty());
}

/// As a script leaves it.
fn leave_on_vfio(rig: &Rig, address: Address) {
    for step in [
        Step::LoadModule { module: "vfio_pci".into() },
        Step::SetOverride { address, from: None, to: Some("vfio-pci".into()) },
        Step::Unbind { address, driver: "e1000e".into() },
        Step::Bind { address, driver: "vfio-pci".into() },
    ] {
        rig.host.meddle(&step).unwrap();
    }
}

#[test]
fn devices_that_a_script_left_on_vfio_are_brought_back() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    leave_on_vfio(&rig, at(NIC));
    let made = claim(&engine, "one", &[GPU]);
    assert!(rig.host.open_group(4, 4711));
    let outcome = engine.recover_devices(&[]).unwrap();
    let left: Vec<_> = outcome.iter().filter_map(|one| one.reason.as_deref()).collect();
    assert_eq!(outcome.len(), 3, "the GPU, its audio function and the NIC");
    assert!(left.iter().any(|why| why.contains("pid 4711")), "{left:?}");
    assert!(left.iter().any(|why| why.contains("claimed by job/one")), "{left:?}");
    rig.host.let_go(4711);
    engine.release_claim(&made.id.to_string(), None).unwrap();
    let outcome = engine.recover_devices(&[]).unwrap();
    assert_eq!(outcome.len(), 1);
    assert_eq!(outcome[0].driver.as_deref(), Some("e1000e"), "{outcome:?}");
    rig.assert_untouched("recovered");
}

#[test]
fn what_is_reserved_for_the_boot_is_at_home_on_vfio() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    leave_on_vfio(&rig, at(NIC));
    rig.host.reserve_at_boot(at(NIC));
    assert!(engine.recover_devices(&[]).unwrap().is_empty());
    let named = engine.recover_devices(&[at(NIC)]).unwrap();
    assert_eq!(named[0].driver.as_deref(), Some("e1000e"), "who names it means it");
    rig.assert_untouched("recovered");
}

#[test]
fn a_recovery_that_is_cut_off_anywhere_is_finished_by_the_next_daemon() {
    for boundary in 0.. {
        let rig = Rig::new();
        rig.open_recovered();
        leave_on_vfio(&rig, at(NIC));
        let lived = rig.killed_at(boundary, |engine| drop(engine.recover_devices(&[])));
        let (engine, _) = rig.open_recovered();
        assert!(
            engine.journal(5).unwrap().iter().all(|op| op.state != engine::OperationState::Open),
            "{boundary}"
        );
        if rig.host.snapshot().functions[&at(NIC)].driver.as_deref() != Some("vfio-pci") {
            rig.assert_untouched(&format!("killed at {boundary}"));
        }
        if lived {
            assert!(boundary > 6, "the steps have boundaries");
            return;
        }
    }
}

#[test]
fn reconcile_tells_what_another_tool_did_to_a_claim() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    claim(&engine, "one", &[NIC]);
    assert_eq!(engine.reconcile().unwrap().notes, Vec::<String>::new());
    let address = at(NIC);
    rig.host.meddle(&Step::Unbind { address, driver: "vfio-pci".into() }).unwrap();
    let notes = engine.reconcile().unwrap().notes;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("job/one") && notes[0].contains("no driver"), "{notes:?}");
    assert_eq!(engine.last_report().unwrap().notes, notes);
}

#[test]
fn a_device_that_stops_answering_while_it_is_claimed_is_noticed() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    register(&engine, "e1000e", NIC).unwrap();
    claim(&engine, "one", &[NIC]);
    assert!(engine.look_after_claims().unwrap().is_empty());
    rig.host.lose_link(at(NIC));
    let lost = engine.look_after_claims().unwrap();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].1.contains("job/one"), "{lost:?}");
    assert!(engine.look_after_claims().unwrap().is_empty(), "it is told once");
    assert_eq!(engine.device("e1000e").unwrap().state, DeviceState::Quarantined);
}

#[test]
fn what_the_kernel_could_not_recover_waits_for_a_person() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let reason = engine.recovery_failed(at(NIC)).unwrap().unwrap();
    assert!(reason.contains("PCIe error"), "{reason}");
    assert_eq!(engine.recovery_failed(at(NIC)).unwrap(), None, "it is told once");
    assert_eq!(engine.recovery_failed(at("0000:00:01.0")).unwrap(), None, "a port is nobody's");
    assert_eq!(refused(&engine, "one", &[NIC]).code, Code::DeviceWedged);
    engine.clear_device(NIC).unwrap();
    claim(&engine, "one", &[NIC]);
}

/// Lets the engine compare everything while a step is under way.
struct Comparing(std::sync::Mutex<Option<Engine>>);

impl engine::Observer for Comparing {
    fn reached(&self, event: &engine::JournalEvent) {
        if !matches!(event, engine::JournalEvent::Intended { .. }) {
            return;
        }
        let engine = self.0.lock().unwrap().take();
        if let Some(engine) = engine {
            assert_eq!(engine.reconcile().unwrap().notes, Vec::<String>::new());
        }
    }
}

#[test]
fn reconcile_leaves_alone_what_is_being_worked_on() {
    let rig = Rig::new();
    let comparing = std::sync::Arc::new(Comparing(std::sync::Mutex::default()));
    let engine = rig.open_with(comparing.clone()).unwrap();
    *comparing.0.lock().unwrap() = Some(engine.clone());
    claim(&engine, "one", &[NIC]);
    assert!(comparing.0.lock().unwrap().is_none(), "it was compared");
}

#[test]
fn who_asks_at_the_same_time_gets_another_one_as_long_as_there_is_one() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    engine.set_vf_count("0000:01:00.0", 8, false).unwrap();
    let ask = |number: usize| claim(&engine, &number.to_string(), &["vf@0000:01:00.0"]);
    let claims: Vec<Claim> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || ask(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let heads: std::collections::BTreeSet<_> = claims.iter().map(Claim::head).collect();
    assert_eq!(heads.len(), 8);
    assert_eq!(refused(&engine, "late", &["vf@0000:01:00.0"]).code, Code::InsufficientResources);
}
