//! Marks: a Handover does not take devices that another one, with its own state directory, has claimed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use engine::{ClaimStep, Config, Engine, Returned, Silent};
use model::{Address, Claim, Code, Host as _, Observed, Refusal, Step};
use support::{GPU, NIC, Rig, at, claim, refused, request};
use tempfile::TempDir;

/// The state of another Handover on the same host.
struct Other {
    dir: TempDir,
}

impl Other {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn open(&self, rig: &Rig) -> Engine {
        let config = Config { state_dir: self.dir.path().join("other"), ..rig.config() };
        let launchers: Vec<Arc<dyn model::Launcher>> = vec![rig.launcher.clone()];
        let engine = Engine::open(config, rig.host.clone(), launchers, Arc::new(Silent)).unwrap();
        engine.recover().unwrap();
        engine
    }
}

/// A claim of a Handover that is then killed.
fn claimed_and_killed(rig: &Rig, want: &str) -> Claim {
    let engine = rig.open();
    let claimed = claim(&engine, "a", &[want]);
    drop(engine);
    claimed
}

fn marked(rig: &Rig) -> Vec<Address> {
    let now = rig.host.snapshot();
    now.functions.iter().filter(|(_, f)| f.mark.is_some()).map(|(at, _)| *at).collect()
}

fn assert_names(refusal: &Refusal, rig: &Rig, claim: &Claim) {
    assert_eq!(refusal.code, Code::InUse, "{refusal}");
    let state_dir = rig.config().state_dir.display().to_string();
    for part in ["another Handover", &state_dir, &claim.id.to_string()] {
        assert!(refusal.message.contains(part), "{part}: {refusal}");
    }
}

#[test]
fn devices_of_another_handover_are_not_taken() {
    let rig = Rig::new();
    let theirs = claimed_and_killed(&rig, GPU);
    assert_eq!(marked(&rig), theirs.taken().collect::<Vec<_>>());
    let there = rig.host.snapshot();
    let other = Other::new();
    let engine = other.open(&rig);
    assert_names(&refused(&engine, "b", &[GPU]), &rig, &theirs);
    assert_names(&engine.claims().dry_run(&request("b", &[GPU])).unwrap_err(), &rig, &theirs);
    assert_eq!(rig.host.snapshot(), there, "the host was changed");
    assert!(engine.claims().all().unwrap().is_empty());
    drop(engine);
    let (engine, _) = rig.open_recovered();
    engine.claims().release(&theirs.id.to_string(), None).unwrap();
    rig.assert_untouched("released");
    drop(engine);
    let engine = other.open(&rig);
    let ours = claim(&engine, "b", &[GPU]);
    engine.claims().release(&ours.id.to_string(), None).unwrap();
    rig.assert_untouched("released by the other");
}

#[test]
fn devices_of_another_handover_are_listed_as_not_free() {
    let rig = Rig::new();
    let theirs = claimed_and_killed(&rig, NIC);
    let other = Other::new();
    let engine = other.open(&rig);
    let all = engine.devices().available(&engine::AvailableFilter::All).unwrap();
    assert!(all.iter().all(|device| !theirs.holds(device.address)), "{all:?}");
    assert!(!all.is_empty());
    let wanted = engine::RegisterDevice {
        address: NIC.into(),
        name: Some("nic".into()),
        tags: std::collections::BTreeMap::new(),
    };
    engine.devices().register(wanted).unwrap();
    let device = engine.devices().find("nic").unwrap();
    assert_eq!(device.state, engine::DeviceState::Foreign);
    let reason = device.state_reason.unwrap();
    assert!(reason.contains(&theirs.id.to_string()), "{reason}");
}

#[test]
fn an_unmarked_device_is_chosen_instead() {
    let rig = Rig::new();
    let first = claimed_and_killed(&rig, "1xgpu");
    let other = Other::new();
    let engine = other.open(&rig);
    let second = claim(&engine, "b", &["1xgpu"]);
    assert!(second.taken().all(|address| !first.holds(address)), "{second:?}");
    assert_eq!(refused(&engine, "c", &["1xgpu"]).code, Code::InsufficientResources);
}

#[test]
fn marks_are_checked_again_before_a_reserved_claim_is_prepared() {
    let rig = Rig::new();
    let other = Other::new();
    let engine = other.open(&rig);
    let mut reserve = request("b", &[NIC]);
    reserve.step = ClaimStep::Reserve;
    let reserved = engine.claims().claim(&reserve).unwrap().claim;
    drop(engine);
    let theirs = claimed_and_killed(&rig, NIC);
    let there = rig.host.snapshot();
    let engine = other.open(&rig);
    let access = engine::Access::default();
    let refusal = engine.claims().prepare(&reserved.id.to_string(), &access).unwrap_err();
    assert_names(&refusal, &rig, &theirs);
    assert_names(&engine.claims().dry_run(&reserve).unwrap_err(), &rig, &theirs);
    assert_eq!(rig.host.snapshot(), there, "the host was changed");
}

#[test]
fn returning_devices_skips_those_of_another_handover() {
    let rig = Rig::new();
    let theirs = claimed_and_killed(&rig, NIC);
    let there = rig.host.snapshot();
    let other = Other::new();
    let engine = other.open(&rig);
    for asked in [vec![], vec![at(NIC)]] {
        let all = engine.devices().return_unclaimed(&asked).unwrap();
        let [only] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((only.address, only.outcome), (at(NIC), Returned::Left));
        let reason = only.reason.clone().unwrap();
        assert!(reason.contains(&theirs.id.to_string()), "{reason}");
    }
    assert_eq!(rig.host.snapshot(), there, "the host was changed");
}

#[test]
fn clearing_removes_the_marks_of_a_handover_that_is_gone() {
    let rig = Rig::new();
    let theirs = claimed_and_killed(&rig, NIC);
    let other = Other::new();
    let engine = other.open(&rig);
    let notes = engine.devices().clear(NIC).unwrap();
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(note.contains(&theirs.id.to_string()) && note.contains("another Handover"), "{note}");
    assert!(marked(&rig).is_empty());
    assert_eq!(engine.devices().clear(NIC).unwrap(), Vec::<String>::new());
    let back = engine.devices().return_unclaimed(&[]).unwrap();
    assert_eq!(back.first().map(|one| one.outcome), Some(Returned::Restored), "{back:?}");
    assert_eq!(
        rig.host.snapshot().functions[&at(NIC)].driver,
        rig.before.functions[&at(NIC)].driver
    );
    claim(&engine, "b", &[NIC]);
}

/// A machine can run without the Handover that prepared its devices.
#[test]
fn a_device_in_use_is_not_cleared() {
    let rig = Rig::new();
    let theirs = claimed_and_killed(&rig, NIC);
    assert!(rig.host.open_group(4, 4711));
    let other = Other::new();
    let engine = other.open(&rig);
    assert_eq!(engine.devices().clear(NIC).unwrap_err().code, Code::InUse);
    assert_eq!(marked(&rig), theirs.taken().collect::<Vec<_>>());
}

/// A backup of the store from before a claim was restored.
#[test]
fn the_mark_of_an_unrecorded_claim_is_reported_and_returned() {
    let rig = Rig::new();
    drop(rig.open());
    let file = rig.config().state_dir.join("state.db");
    let backup = rig.dir.path().join("backup.db");
    rig.sqlite().execute("VACUUM INTO ?", [backup.to_str().unwrap()]).unwrap();
    let lost = claimed_and_killed(&rig, NIC);
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(PathBuf::from(format!("{}{ending}", file.display())));
    }
    std::fs::copy(&backup, &file).unwrap();
    let (engine, _) = rig.open_recovered();
    let refusal = refused(&engine, "b", &[NIC]);
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.message.contains(&lost.id.to_string()), "{refusal}");
    assert!(refusal.remedy.contains("handover return"), "{refusal:?}");
    let returned = engine.devices().return_unclaimed(&[]).unwrap();
    assert_eq!(returned.first().map(|one| one.outcome), Some(Returned::Restored), "{returned:?}");
    assert!(marked(&rig).is_empty());
    claim(&engine, "b", &[NIC]);
}

/// A device that another tool changed is left alone, but its mark is removed.
#[test]
fn a_device_left_to_another_tool_has_no_mark() {
    let rig = Rig::new();
    let engine = rig.open();
    let ours = claim(&engine, "a", &[NIC]);
    rig.host.change(at(NIC), |function| function.driver_override = Some("pci-stub".into()));
    let notes = engine.claims().release(&ours.id.to_string(), None).unwrap();
    assert!(!notes.is_empty());
    assert!(marked(&rig).is_empty());
}

#[test]
fn marks_end_with_the_boot() {
    let rig = Rig::new();
    claimed_and_killed(&rig, NIC);
    rig.host.reboot();
    let other = Other::new();
    let engine = other.open(&rig);
    claim(&engine, "b", &[NIC]);
}

/// The step finds a foreign mark that the check before it did not.
#[test]
fn a_mark_set_meanwhile_is_not_replaced() {
    let rig = Rig::new();
    claimed_and_killed(&rig, NIC);
    let theirs = rig.host.snapshot().functions[&at(NIC)].mark.clone().unwrap();
    let mark = model::Mark { store: uuid::Uuid::from_u128(7), ..theirs.clone() };
    let step = Step::Mark { address: at(NIC), mark: mark.clone() };
    assert!(matches!(rig.host.observe(&step), Ok(Observed::Other(_))));
    assert!(rig.host.perform(&step).is_err());
    assert!(rig.host.perform(&Step::Unmark { address: at(NIC), mark }).is_err());
    assert_eq!(rig.host.snapshot().functions[&at(NIC)].mark, Some(theirs));
}
