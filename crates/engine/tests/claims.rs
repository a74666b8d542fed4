//! Claims by people and programs: choosing, all or nothing, and restoring the host afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use engine::{Access, ClaimRequest, ClaimStep, DeviceState, Engine};
use model::{Address, Attachment, Claim, ClaimState, Code, Holder, Owner, Step};
use sim::{Fault, When};
use support::{GPU, GPU_AUDIO, NIC, Rig, at, claim, owner, refused, register, request, wish};

#[test]
fn a_claim_is_prepared_and_restored_without_a_machine() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let made = engine.claims().claim(&request("one", &[GPU])).unwrap();
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
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn claiming_is_idempotent_per_owner_and_request() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..request("one", &["nic"]) };
    let first = engine.claims().claim(&reserve).unwrap();
    rig.assert_untouched("reserved only");
    let again = engine.claims().claim(&reserve).unwrap();
    assert_eq!((again.new, again.claim.id), (false, first.claim.id));
    let prepared = engine.claims().claim(&request("one", &["nic"])).unwrap();
    assert_eq!((prepared.new, prepared.claim.state), (false, ClaimState::Prepared));
    let again = engine.claims().prepare("job/one", &Access::default()).unwrap();
    assert_eq!(again.state, ClaimState::Prepared);
    assert_eq!(engine.claims().unprepare("job/one").unwrap().0.state, ClaimState::Reserved);
    rig.assert_untouched("unprepared");
    assert_eq!(engine.claims().unprepare("job/one").unwrap().0.state, ClaimState::Reserved);
    assert_eq!(refused(&engine, "two", &[NIC]).code, Code::InUse);
    engine.claims().release("job/one", Some(&owner("one"))).unwrap();
    assert_eq!(engine.claims().release("job/one", None).unwrap_err().code, Code::NotFound);
}

#[test]
fn repeating_a_claim_with_other_options_is_refused() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let mine = ClaimRequest { uid: Some(1000), ..request("one", &[GPU]) };
    let first = engine.claims().claim(&mine).unwrap();
    assert_eq!(engine.claims().claim(&mine).unwrap().claim.id, first.claim.id);
    let other = ClaimRequest { uid: Some(1001), ..mine.clone() };
    let refusal = engine.claims().claim(&other).unwrap_err();
    assert_eq!(refusal.code, Code::Conflict);
    assert!(refusal.message.contains("uid 1000") && refusal.remedy.contains("unprepare"));
    let alone = ClaimRequest { alone: true, ..mine };
    assert_eq!(
        engine.claims().claim(&alone).unwrap_err().code,
        Code::InUse,
        "the whole card is claimed"
    );
    engine.claims().unprepare("job/one").unwrap();
    assert_eq!(engine.claims().claim(&other).unwrap().claim.id, first.claim.id);
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
}

#[test]
fn all_or_nothing() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let refusal = refused(&engine, "one", &["3xgpu"]);
    assert_eq!(refusal.code, Code::InsufficientResources);
    assert!(refusal.message.contains("2 of 3"), "{refusal}");
    // One request for two means two of one model, which this host does not have.
    let refusal = refused(&engine, "one", &["2xgpu"]);
    assert_eq!(refusal.code, Code::InsufficientResources);
    assert!(refusal.remedy.contains("--mixed"), "{refusal}");
    rig.host.fault(
        When::Step(Box::new(
            |step| matches!(step, Step::Bind { address, .. } if *address == at(NIC)),
        )),
        Fault::Refuse,
    );
    let refusal = refused(&engine, "one", &["gpu", "gpu", "nic"]);
    assert_eq!(refusal.code, Code::StepFailed, "{refusal}");
    rig.assert_untouched("a step failed");
    assert!(engine.claims().all().unwrap().is_empty());
    assert_eq!(claim(&engine, "one", &["gpu", "gpu", "nic"]).parts.len(), 3);
}

#[test]
fn a_filter_does_not_choose_a_device_that_is_named_too() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let claim = claim(&engine, "one", &["gpu", GPU]);
    let heads: Vec<String> = claim.parts.iter().map(|part| part.head.to_string()).collect();
    assert_eq!(heads, ["0000:02:00.0", GPU]);
}

#[test]
fn a_dry_run_lists_the_steps_and_performs_none() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let (claim, plan) = engine.claims().dry_run(&request("one", &[NIC])).unwrap();
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
    assert!(engine.claims().all().unwrap().is_empty() && engine.journal(9).unwrap().is_empty());
}

#[test]
fn a_claim_in_use_is_not_released() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let made = claim(&engine, "one", &[NIC]);
    assert!(rig.host.open_group(4, 4711));
    let refusal = engine.claims().release(&made.id.to_string(), None).unwrap_err();
    assert_eq!(refusal.code, Code::InUse, "{refusal}");
    rig.host.let_go(4711);
    engine.claims().release(&made.id.to_string(), None).unwrap();
    rig.assert_untouched("after the release");
}

#[test]
fn persistence_mode_is_disabled_for_one_gpu_and_restored_afterwards() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    claim(&engine, "one", &["0000:05:00.0"]);
    let units = rig.host.snapshot().units;
    assert_eq!(units.get("nvidia-persistenced.service"), Some(&true), "the unit serves other GPUs");
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
}

fn dpdk() -> Holder {
    Holder {
        address: at(NIC),
        kind: model::HolderKind::Process,
        pid: Some(4711),
        started: Some(1),
        program: Some("dpdk".into()),
        user: "dpdk (pid 4711)".into(),
        by: "/dev/uio0".into(),
        mdev: None,
        interface: None,
    }
}

/// As after the restore of a backup, or if another tool took the device.
#[test]
fn a_prepared_claim_without_its_device_is_not_reported_as_usable() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let made = claim(&engine, "one", &[NIC]);
    rig.host.change(at(NIC), |state| state.driver = Some("e1000e".into()));
    let report = engine.reconcile().unwrap();
    assert!(report.notes.iter().any(|note| note.contains("prepare it again")), "{report:?}");
    let refusal = engine.claims().prepare("job/one", &Access::default()).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
    engine.claims().unprepare(&made.id.to_string()).unwrap();
    engine.claims().prepare("job/one", &Access::default()).unwrap();
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("released");
}

#[test]
fn the_claim_of_an_instance_is_found_by_the_owner_that_is_shown() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    let refusal = engine.claims().release("instance/vm", None).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
    assert!(refusal.remedy.contains("handover instance detach vm 0000:03:00.0"), "{refusal}");
    assert_eq!(engine.claims().release("instance/none", None).unwrap_err().code, Code::NotFound);
}

#[test]
fn clearing_an_absent_function_is_an_error() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let refusal = engine.devices().clear("0000:99:00.0").unwrap_err();
    assert_eq!(refusal.code, Code::DeviceNotFound);
}

/// Only a claim has the option to evict processes, and only what can be done is suggested.
#[test]
fn the_remedy_of_a_device_in_use_is_one_that_the_request_has() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    rig.host.hold(dpdk());
    let refusal = engine.instances().create(support::wish("vm", &["nic"])).unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.remedy.contains("kill 4711") && !refusal.remedy.contains("--evict"));
    rig.host.let_go(4711);
    engine.instances().create(support::wish("vm", &["nic"])).unwrap();
    let returned = engine.devices().return_unclaimed(&[at(NIC)]).unwrap();
    let reason = returned.first().and_then(|one| one.reason.clone()).unwrap();
    assert!(reason.contains("handover instance detach vm 0000:03:00.0"), "{reason}");
}

#[test]
fn a_process_is_evicted_only_if_the_request_says_so() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    rig.host.hold(dpdk());
    let refusal = refused(&engine, "one", &[NIC]);
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.message.contains("dpdk (pid 4711)") && refusal.remedy.contains("--evict"));
    let evict = ClaimRequest { evict: true, ..request("one", &[NIC]) };
    engine.claims().claim(&evict).unwrap();
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
    rig.host.hold_stubbornly(dpdk());
    let refusal = engine.claims().claim(&evict).unwrap_err();
    assert!(refusal.message.contains("dpdk (pid 4711)"), "{refusal}");
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn a_bus_reset_is_performed_once_and_only_if_the_claim_covers_all_that_it_hits() {
    let rig = Rig::on(sim::gpus());
    let (engine, _) = rig.open_recovered();
    let reset = |id, wants: &[&str]| ClaimRequest { reset: true, ..request(id, wants) };
    engine.claims().claim(&reset("one", &["0000:11:00.0"])).unwrap();
    assert!(rig.host.resets().is_empty(), "the claim does not cover its neighbour");
    engine.claims().release("job/one", None).unwrap();
    engine.claims().claim(&reset("both", &["0000:11:00.0", "0000:11:01.0"])).unwrap();
    let resets = rig.host.resets();
    assert!(resets.iter().all(|reset| reset.disturbed.is_empty()), "{resets:?}");
    assert!(!resets.is_empty() && resets.len() <= 2, "{resets:?}");
    engine.claims().release("job/both", None).unwrap();
    rig.assert_untouched("after the release");
}

#[test]
fn a_device_that_lost_its_link_is_quarantined_until_it_is_cleared() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    register(&engine, "nic", NIC).unwrap();
    claim(&engine, "one", &["nic"]);
    rig.host.lose_link(at(NIC));
    let refusal = engine.claims().release("job/one", None).unwrap_err();
    assert_eq!(refusal.code, Code::DeviceWedged, "{refusal}");
    assert_eq!(engine.devices().find("nic").unwrap().state, DeviceState::Quarantined);
    assert_eq!(refused(&engine, "two", &[NIC]).code, Code::DeviceWedged);
    // The way out is the same for all commands, also for a registration that is made now.
    for refusal in [
        engine.devices().reset(NIC, None, false).unwrap_err(),
        engine.devices().unbind(NIC, None).unwrap_err(),
    ] {
        assert!(refusal.remedy.contains("handover device clear"), "{refusal}");
        assert!(!refusal.remedy.contains("undo/"), "{refusal}");
    }
    let reset = engine.devices().reset(NIC, None, false).unwrap_err();
    assert_eq!(reset.message.matches(NIC).count(), 1, "{reset}");
    assert!(reset.message.contains("(quarantined)"), "{reset}");
    engine.devices().delete("nic").unwrap();
    assert_eq!(register(&engine, "nic", NIC).unwrap().state, DeviceState::Quarantined);
    assert_eq!(
        engine.devices().clear(NIC).unwrap_err().code,
        Code::DeviceWedged,
        "it still does not answer"
    );
    rig.host.regain_link(at(NIC));
    engine.devices().clear(NIC).unwrap();
    rig.assert_untouched("after it was cleared");
    assert_eq!(engine.devices().find("nic").unwrap().state, DeviceState::Free);
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn another_card_at_the_same_address_is_not_prepared() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    register(&engine, "nic", NIC).unwrap();
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..request("one", &["nic"]) };
    rig.host.replace_card(at(NIC), "00-00-00-ff-fe-00-00-01");
    engine.devices().delete("nic").unwrap();
    register(&engine, "nic", NIC).unwrap();
    engine.claims().claim(&reserve).unwrap();
    rig.host.pull(at(NIC));
    assert_eq!(engine.devices().find("nic").unwrap().state, DeviceState::Absent);
    rig.host.plug(at(NIC), Some("00-00-00-ff-fe-00-00-02"));
    let refusal = engine.claims().prepare("job/one", &Access::default()).unwrap_err();
    assert_eq!(refusal.code, Code::FingerprintChanged, "{refusal}");
}

#[test]
fn an_expired_lease_releases_a_claim_but_not_one_in_use() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let short = ClaimRequest { lease: Some(Duration::ZERO), ..request("one", &[NIC]) };
    engine.claims().claim(&short).unwrap();
    assert!(rig.host.open_group(4, 4711));
    let (kept, _) = engine.claims().release_expired().unwrap();
    assert_eq!(kept.len(), 1, "a machine uses it");
    rig.host.let_go(4711);
    let (kept, next) = engine.claims().release_expired().unwrap();
    assert!(kept.is_empty() && next.is_none());
    rig.assert_untouched("the lease expired");
    let long = ClaimRequest { lease: Some(Duration::from_secs(3600)), ..request("one", &[NIC]) };
    engine.claims().claim(&long).unwrap();
    assert!(engine.claims().release_expired().unwrap().1.unwrap() > Duration::from_secs(3000));
    engine.claims().renew("job/one", None).unwrap();
    assert_eq!(engine.claims().release_expired().unwrap().1, None);
}

/// A claim of the NIC for 15 s.
fn for_fifteen_seconds(engine: &engine::Engine) {
    let lease = Some(Duration::from_secs(15));
    engine.claims().claim(&ClaimRequest { lease, ..request("one", &[NIC]) }).unwrap();
}

#[test]
fn a_lease_ends_in_time_whatever_the_clock_of_the_day_shows() {
    const DAY: i64 = 86_400;
    for error in [0, -2 * DAY, DAY] {
        let rig = Rig::new();
        let (engine, _) = rig.open_recovered();
        for_fifteen_seconds(&engine);
        rig.host.set_clock_error(error);
        rig.host.pass(Duration::from_secs(13));
        let (_, next) = engine.claims().release_expired().unwrap();
        assert_eq!(engine.claims().all().unwrap().len(), 1, "{error}: too early");
        assert!(next.unwrap() <= Duration::from_secs(2), "{error}: {next:?}");
        rig.host.pass(Duration::from_secs(2));
        assert_eq!(engine.claims().release_expired().unwrap(), (Vec::new(), None));
        assert!(engine.claims().all().unwrap().is_empty(), "{error}: too late");
        rig.assert_untouched("the lease is over");
    }
}

#[test]
fn a_lease_outlives_a_start_and_a_clock_that_was_wrong_then() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    for_fifteen_seconds(&engine);
    drop(engine);
    rig.host.set_clock_error(-172_800);
    let (engine, _) = rig.open_recovered();
    engine.claims().release_expired().unwrap();
    assert_eq!(engine.claims().all().unwrap().len(), 1, "too early");
    rig.host.set_clock_error(0);
    rig.host.pass(Duration::from_secs(15));
    engine.claims().release_expired().unwrap();
    assert!(engine.claims().all().unwrap().is_empty(), "too late");
}

#[test]
fn a_renewed_lease_runs_from_then_on() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    for_fifteen_seconds(&engine);
    rig.host.pass(Duration::from_secs(10));
    engine.claims().renew("job/one", Some(Duration::from_secs(15))).unwrap();
    rig.host.pass(Duration::from_secs(10));
    engine.claims().release_expired().unwrap();
    assert_eq!(engine.claims().all().unwrap().len(), 1);
    rig.host.pass(Duration::from_secs(5));
    engine.claims().release_expired().unwrap();
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn only_its_owner_can_release_a_claim() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let made = claim(&engine, "one", &["nic"]);
    let refusal = engine.claims().release(&made.id.to_string(), Some(&owner("two"))).unwrap_err();
    assert_eq!(refusal.code, Code::Forbidden);
    let instance = engine.instances().create(wish("vm", &["gpu"])).unwrap();
    let claims = engine.claims().all().unwrap();
    let its = claims.iter().find(|claim| claim.owner == Owner::instance(instance.id)).unwrap();
    let refusal = engine.claims().release(&its.id.to_string(), None).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState, "{refusal}");
    let forged = ClaimRequest::new(Owner::instance(instance.id), request("x", &["nvme"]).wants);
    assert_eq!(engine.claims().claim(&forged).unwrap_err().code, Code::InvalidRequest);
    let refusal = engine.instances().create(wish("other", &["nic"])).unwrap_err();
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
    // In sequence they would take eight times as long; this leaves room for the journal and a busy host.
    assert!(began.elapsed() < bind * 5, "{:?}", began.elapsed());
}

#[test]
fn a_cancelled_preparation_is_rolled_back() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let slow = Duration::from_millis(300);
    rig.host.set_delay(
        move |step| if matches!(step, Step::Unbind { .. }) { slow } else { Duration::ZERO },
    );
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..request("one", &[NIC]) };
    engine.claims().claim(&reserve).unwrap();
    std::thread::scope(|scope| {
        let preparing = scope.spawn(|| engine.claims().prepare("job/one", &Access::default()));
        std::thread::sleep(slow / 3);
        engine.claims().release("job/one", None).unwrap();
        let refusal = preparing.join().unwrap().unwrap_err();
        assert!(refusal.message.contains("cancelled"), "{refusal}");
    });
    rig.assert_untouched("cancelled");
    std::thread::scope(|scope| {
        let preparing = scope.spawn(|| engine.claims().claim(&request("two", &[NIC])));
        std::thread::sleep(slow / 3);
        engine.cancel_all();
        assert!(preparing.join().unwrap().is_err());
    });
    rig.assert_untouched("the daemon stopped");
    assert!(engine.claims().all().unwrap().is_empty());
}

/// Leaves the device on vfio, as a script does.
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
fn devices_that_a_script_left_on_vfio_are_returned() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    leave_on_vfio(&rig, at(NIC));
    let made = claim(&engine, "one", &[GPU]);
    assert!(rig.host.open_group(4, 4711));
    let outcome = engine.devices().return_unclaimed(&[]).unwrap();
    let left: Vec<_> = outcome.iter().filter_map(|one| one.reason.as_deref()).collect();
    assert_eq!(outcome.len(), 3, "the GPU, its audio function and the NIC");
    assert!(left.iter().any(|why| why.contains("pid 4711")), "{left:?}");
    assert!(left.iter().any(|why| why.contains("claimed by job/one")), "{left:?}");
    rig.host.let_go(4711);
    engine.claims().release(&made.id.to_string(), None).unwrap();
    let outcome = engine.devices().return_unclaimed(&[]).unwrap();
    assert_eq!(outcome.len(), 1);
    assert_eq!(outcome[0].driver.as_deref(), Some("e1000e"), "{outcome:?}");
    rig.assert_untouched("returned");
}

#[test]
fn devices_on_the_boot_list_stay_on_vfio() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    leave_on_vfio(&rig, at(NIC));
    rig.host.reserve_at_boot(at(NIC));
    assert!(engine.devices().return_unclaimed(&[]).unwrap().is_empty());
    let named = engine.devices().return_unclaimed(&[at(NIC)]).unwrap();
    assert_eq!(named[0].driver.as_deref(), Some("e1000e"), "a device that is named is returned");
    rig.assert_untouched("returned");
}

#[test]
fn an_interrupted_return_is_finished_by_the_next_daemon() {
    for boundary in 0.. {
        let rig = Rig::new();
        rig.open_recovered();
        leave_on_vfio(&rig, at(NIC));
        let lived = rig.killed_at(boundary, |engine| drop(engine.devices().return_unclaimed(&[])));
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
fn reconcile_reports_what_another_tool_did_to_a_claim() {
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
    assert!(engine.check_claims().unwrap().is_empty());
    rig.host.lose_link(at(NIC));
    let lost = engine.check_claims().unwrap();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].1.contains("job/one"), "{lost:?}");
    assert!(engine.check_claims().unwrap().is_empty(), "it is reported once");
    assert_eq!(engine.devices().find("e1000e").unwrap().state, DeviceState::Quarantined);
}

#[test]
fn a_function_that_the_kernel_could_not_recover_is_quarantined() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let reason = engine.devices().recovery_failed(at(NIC)).unwrap().unwrap();
    assert!(reason.contains("PCIe error"), "{reason}");
    assert_eq!(engine.devices().recovery_failed(at(NIC)).unwrap(), None, "it is reported once");
    assert_eq!(
        engine.devices().recovery_failed(at("0000:00:01.0")).unwrap(),
        None,
        "ports are never handed over"
    );
    assert_eq!(refused(&engine, "one", &[NIC]).code, Code::DeviceWedged);
    engine.devices().clear(NIC).unwrap();
    claim(&engine, "one", &[NIC]);
}

/// Reconciles while a step is running.
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
fn reconcile_skips_a_claim_with_a_running_operation() {
    let rig = Rig::new();
    let comparing = std::sync::Arc::new(Comparing(std::sync::Mutex::default()));
    let engine = rig.open_with(comparing.clone()).unwrap();
    *comparing.0.lock().unwrap() = Some(engine.clone());
    claim(&engine, "one", &[NIC]);
    assert!(comparing.0.lock().unwrap().is_none(), "it was compared");
}

#[test]
fn concurrent_claims_get_different_devices_while_there_are_any() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    engine.vf_counts().set("0000:01:00.0", 8, false).unwrap();
    let ask = |number: usize| claim(&engine, &number.to_string(), &["vf@0000:01:00.0"]);
    let claims: Vec<Claim> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || ask(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let heads: std::collections::BTreeSet<_> = claims.iter().map(Claim::head).collect();
    assert_eq!(heads.len(), 8);
    assert_eq!(refused(&engine, "late", &["vf@0000:01:00.0"]).code, Code::InsufficientResources);
}
