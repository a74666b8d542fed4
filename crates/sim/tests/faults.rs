//! Faults and their results.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use model::{
    Address, Checked, Holder, Host, HostError, LinkBaseline, Lock, Observed, ResetDomain, Step,
};
use sim::{Fault, SimHost, When, gpus, server};

const UNIT: &str = "nvidia-persistenced.service";

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

fn count(from: u16, to: u16) -> Step {
    Step::SetVfCount { address: at("0000:01:00.0"), from, to }
}

fn unbind(address: &str, driver: &str) -> Step {
    Step::Unbind { address: at(address), driver: driver.into() }
}

/// Binds a function to vfio-pci.
fn take(host: &SimHost, address: &str, driver: &str) {
    host.perform(&Step::LoadModule { module: "vfio_pci".into() }).unwrap();
    let to = Some("vfio-pci".to_owned());
    host.perform(&Step::SetOverride { address: at(address), from: None, to }).unwrap();
    host.perform(&unbind(address, driver)).unwrap();
    host.perform(&Step::Bind { address: at(address), driver: "vfio-pci".into() }).unwrap();
}

#[track_caller]
fn refused(host: &SimHost, step: &Step, errno: i32) {
    let result = host.perform(step);
    let given =
        matches!(&result, Err(HostError::File { errno: Some(given), .. }) if *given == errno);
    assert!(given, "{result:?} and not {errno}");
}

fn reset(host: &SimHost, address: &str) -> Step {
    let inventory = host.inventory().unwrap();
    let address = at(address);
    let domain = ResetDomain::of(&inventory, inventory.function(address).unwrap()).functions;
    let link = host.as_found(&[address]).unwrap()[0].link;
    Step::Reset { address, domain, link }
}

fn holder(address: &str, pid: u32) -> Holder {
    Holder {
        address: at(address),
        kind: model::HolderKind::Process,
        pid: Some(pid),
        started: Some(77),
        program: Some("Xorg".into()),
        user: format!("Xorg (pid {pid})"),
        by: "/dev/nvidia0".into(),
        mdev: None,
        interface: None,
    }
}

fn evict(address: &str, pid: u32, started: u64) -> Step {
    Step::Evict { address: at(address), pid, started, user: "Xorg".into() }
}

#[test]
fn a_refusal_changes_nothing() {
    let host = SimHost::new(server());
    let before = host.snapshot();
    for pick in 0..8 {
        host.fault(When::Nth(0), Fault::Error(pick));
        let Err(HostError::File { errno: Some(errno), .. }) = host.perform(&count(0, 4)) else {
            panic!("it was not refused")
        };
        assert!([5, 12, 16, 28].contains(&errno), "{errno}");
    }
    assert_eq!(host.snapshot(), before);
    host.perform(&count(0, 4)).unwrap();
}

#[test]
fn a_step_that_reports_an_error_may_have_taken_effect() {
    let host = SimHost::new(server());
    host.fault(When::Nth(0), Fault::DoneAfterAll);
    assert!(matches!(host.perform(&count(0, 4)), Err(HostError::File { errno: Some(5), .. })));
    assert_eq!(host.observe(&count(0, 4)), Ok(Observed::After));
}

#[test]
fn a_step_that_reports_success_may_have_had_no_effect() {
    let host = SimHost::new(server());
    let before = host.snapshot();
    host.fault(When::Nth(0), Fault::Ignored);
    assert!(matches!(host.perform(&count(0, 4)), Err(HostError::Check { .. })));
    assert_eq!(host.snapshot(), before);
}

#[test]
fn fewer_virtual_functions_than_requested_are_removed() {
    let host = SimHost::new(server());
    let before = host.snapshot();
    host.fault(When::Nth(0), Fault::Fewer(3));
    let Err(HostError::Check { found, .. }) = host.perform(&count(0, 8)) else {
        panic!("it was not noticed")
    };
    assert!(found.contains("fewer"), "{found}");
    assert_eq!(host.snapshot(), before);
    host.perform(&count(0, 8)).unwrap();
    assert_eq!(host.observe(&count(0, 8)), Ok(Observed::After), "it hits once");
}

#[test]
fn a_bus_reset_hits_all_below_the_bridge() {
    let host = SimHost::new(gpus());
    let pair = vec![at("0000:11:00.0"), at("0000:11:01.0")];
    let step = reset(&host, "0000:11:00.0");
    for gpu in ["0000:11:00.0", "0000:11:01.0"] {
        refused(&host, &step, 16);
        take(&host, gpu, "nvidia");
    }
    host.perform(&step).unwrap();
    assert_eq!(host.resets()[0].hit, pair);
    let (address, domain) = (pair[0], vec![pair[0]]);
    refused(&host, &Step::Reset { address, domain, link: None }, 16);
    assert_eq!(host.resets().len(), 1);
    host.fault(When::Nth(0), Fault::Hang);
    assert!(matches!(host.perform(&step), Err(HostError::Deadline { .. })));
    for address in pair {
        assert!(host.is_locked(&Lock::Function(address)).unwrap());
    }
    assert!(!host.is_locked(&Lock::Function(at("0000:12:00.0"))).unwrap());
}

#[test]
fn a_reset_by_another_tool_names_the_disturbed_machine() {
    let host = SimHost::new(gpus());
    let address = at("0000:11:01.0");
    take(&host, "0000:11:00.0", "nvidia");
    take(&host, "0000:11:01.0", "nvidia");
    let group = host.inventory().unwrap().function(address).unwrap().iommu_group.unwrap();
    assert!(host.open_group(group, 4711));
    refused(&host, &reset(&host, "0000:11:00.0"), 16);
    host.write_reset(at("0000:11:00.0")).unwrap();
    assert_eq!(host.resets()[0].disturbed.len(), 1);
}

#[test]
fn a_function_may_not_come_back_from_its_reset() {
    let host = SimHost::new(server());
    let address = at("0000:02:00.0");
    let driver = "nvme".to_owned();
    host.perform(&unbind("0000:02:00.0", "nvme")).unwrap();
    let step = reset(&host, "0000:02:00.0");
    host.fault(When::Nth(0), Fault::NeverBack);
    assert!(matches!(host.perform(&step), Err(HostError::Check { .. })));
    assert_eq!(host.check(address, None), Ok(Checked::Silent));
    assert_eq!(host.check(at("0000:01:00.0"), None), Ok(Checked::Well));
    // Its native driver does not bind it, and sysfs still shows it.
    let back = Step::Return { address, driver };
    refused(&host, &back, 5);
    assert!(host.inventory().unwrap().function(address).is_some());
    host.regain_link(address);
    host.perform(&back).unwrap();
}

#[test]
fn a_link_may_come_back_slower() {
    let host = SimHost::new(server());
    let address = at("0000:02:00.0");
    host.perform(&unbind("0000:02:00.0", "nvme")).unwrap();
    let step = reset(&host, "0000:02:00.0");
    let Step::Reset { link, .. } = step.clone() else { unreachable!() };
    assert!(link.is_some());
    host.fault(When::Nth(0), Fault::SlowerLink);
    assert!(matches!(host.perform(&step), Err(HostError::Check { .. })));
    assert!(matches!(host.check(address, link), Ok(Checked::Slower { .. })));
    assert_eq!(host.check(address, None), Ok(Checked::Well), "nobody knows how it was");
    host.set_link(address, LinkBaseline { speed: 320, width: 16 });
    assert_eq!(host.check(address, link), Ok(Checked::Well));
}

#[test]
fn a_lost_link_takes_all_below_it() {
    let host = SimHost::new(gpus());
    let root = at("0000:00:01.0");
    host.lose_link(root);
    for (address, checked) in [("0000:11:00.0", Checked::Silent), ("0000:21:00.0", Checked::Well)] {
        assert_eq!(host.check(at(address), None), Ok(checked), "{address}");
    }
    host.regain_link(root);
    assert_eq!(host.check(at("0000:11:00.0"), None), Ok(Checked::Well));
}

#[test]
fn a_pulled_device_is_gone_until_it_is_plugged_in() {
    let host = SimHost::new(server());
    let address = at("0000:01:00.0");
    host.perform(&count(0, 4)).unwrap();
    let found = host.as_found(&[address]).unwrap().remove(0);
    host.pull(address);
    let inventory = host.inventory().unwrap();
    assert!(inventory.function(address).is_none());
    assert!(inventory.functions.values().all(|f| f.physical_function != Some(address)));
    assert!(matches!(host.check(address, None), Err(HostError::Gone { .. })));
    assert_eq!(host.observe(&count(4, 0)), Ok(Observed::Absent));
    let back = Step::Return { address, driver: "ice".into() };
    assert!(matches!(host.perform(&back), Err(HostError::Gone { .. })), "no rescan finds it");
    host.reboot();
    assert!(host.inventory().unwrap().function(address).is_none());

    host.plug(address, None);
    let again = host.as_found(&[address]).unwrap().remove(0);
    assert!(again.fingerprint.matches(&found.fingerprint));
    assert_eq!(again.driver.as_deref(), Some("ice"));
    host.pull(address);
    host.plug(address, Some("00-00-00-ff-fe-99-99-99"));
    let other = host.as_found(&[address]).unwrap().remove(0);
    assert!(!other.fingerprint.matches(&found.fingerprint));
}

#[test]
fn a_lost_function_takes_its_parts_along() {
    let host = SimHost::new(server());
    host.perform(&count(0, 4)).unwrap();
    host.fault(When::Nth(0), Fault::Lose);
    assert!(matches!(host.perform(&count(4, 0)), Err(HostError::Gone { .. })));
    let snapshot = host.snapshot();
    assert!(snapshot.vf_counts.is_empty());
    assert!(!snapshot.functions.contains_key(&at("0000:01:10.0")));
}

#[test]
fn a_process_goes_when_it_is_asked_to_or_does_not() {
    let host = SimHost::new(server());
    let audio = "0000:05:00.1";
    host.hold(holder(audio, 10));
    host.hold_stubbornly(holder(audio, 11));
    assert_eq!(host.holders(&[at(audio)]).unwrap().len(), 2);
    let step = evict(audio, 10, 77);
    assert_eq!(host.observe(&step), Ok(Observed::Before));
    assert_eq!(host.observe(&evict(audio, 10, 78)), Ok(Observed::After), "another process");
    host.perform(&step).unwrap();
    assert_eq!(host.observe(&step), Ok(Observed::After));
    let stubborn = evict(audio, 11, 77);
    refused(&host, &stubborn, 110);
    assert!(!host.is_locked(&Lock::Function(at(audio))).unwrap(), "the worker is not stuck");
    host.let_go(11);
    assert_eq!(host.observe(&stubborn), Ok(Observed::After));
}

#[test]
fn the_persistence_daemon_releases_one_gpu_or_stops() {
    let gpu = at("0000:05:00.0");
    let one = Step::SetPersistence { address: gpu, from: true, to: false };
    let all = Step::SetUnit { address: gpu, unit: UNIT.into(), from: true, to: false };
    for step in [one, all] {
        let host = SimHost::new(server());
        let before = host.snapshot();
        let holders = host.holders(&[gpu]).unwrap();
        assert_eq!(holders[0].program.as_deref(), Some("nvidia-persiste"));
        let taken = unbind("0000:05:00.0", "nvidia");
        refused(&host, &taken, 16);
        host.perform(&step).unwrap();
        assert_eq!(host.holders(&[gpu]).unwrap(), []);
        host.perform(&taken).unwrap();
        host.perform(&taken.inverse().unwrap()).unwrap();
        host.perform(&step.inverse().unwrap()).unwrap();
        assert_eq!(host.snapshot(), before);
    }
}

#[test]
fn a_worker_that_is_stuck_keeps_its_own_function_only() {
    let host = SimHost::new(server());
    let nvme = at("0000:02:00.0");
    host.fault(When::Nth(0), Fault::Hang);
    let step = unbind("0000:02:00.0", "nvme");
    assert!(matches!(host.perform(&step), Err(HostError::Deadline { .. })));
    assert!(matches!(host.observe(&step), Err(HostError::Locked { .. })));
    assert!(matches!(host.as_found(&[nvme]), Err(HostError::Deadline { .. })));
    assert!(matches!(host.check(nvme, None), Err(HostError::Deadline { .. })));
    let notes = host.detail(&[nvme]).unwrap().function(nvme).unwrap().notes.clone();
    assert_eq!(notes.len(), 1);
    host.perform(&count(0, 4)).unwrap();
    host.release();
    assert_eq!(host.observe(&step), Ok(Observed::After));
}

#[test]
fn the_dice_fall_the_same_way_for_each_function_whatever_else_is_done() {
    let hits = |addresses: &[&str]| {
        let host = SimHost::new(server());
        host.dice(11, 300, &Fault::ALL);
        let mut hits = Vec::new();
        for turn in 0..40u16 {
            for address in addresses {
                let address = at(address);
                let (from, to) = (turn % 2 == 0, turn % 2 == 1);
                let step = Step::SetAutoprobe { address, from, to };
                hits.push((address, host.perform(&step).err().map(|error| error.to_string())));
            }
        }
        hits
    };
    let alone = hits(&["0000:02:00.0"]);
    let failed = alone.iter().filter(|(_, error)| error.is_some()).count();
    assert!((2..40).contains(&failed), "{failed}");
    let mut among = hits(&["0000:01:00.0", "0000:02:00.0", "0000:04:00.0"]);
    among.retain(|(address, _)| *address == at("0000:02:00.0"));
    assert_eq!(alone, among);
    assert_ne!(alone, hits(&["0000:01:00.0"]));
}
