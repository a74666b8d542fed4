//! The room for vGPUs: what is reserved counts as much as what exists.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{Access, ClaimRequest, ClaimStep, Engine};
use model::Code;
use proptest::prelude::*;
use support::{Rig, refused, request};

/// The profiles of the simulated server, of mediated devices and of virtual functions.
const PROFILES: [&str; 6] = ["A100-4C", "A100-10C", "A100-40C", "L40S-4Q", "L40S-8Q", "L40S-48Q"];

fn reserve(owner: &str, wants: &[&str]) -> ClaimRequest {
    ClaimRequest { step: ClaimStep::Reserve, ..request(owner, wants) }
}

fn left(engine: &Engine, profile: &str) -> u64 {
    let vgpus = engine.resources().unwrap().vgpus.unwrap();
    let found = vgpus.profiles.iter().find(|one| one.name == profile);
    found.map_or(0, |one| one.available)
}

/// The simulated server with virtual functions of the L40S; `uniform`: one size on each GPU.
fn rig(uniform: bool) -> (Rig, Engine) {
    let mut hardware = sim::server();
    for parent in hardware.parents.values_mut() {
        parent.uniform = uniform;
    }
    for physical in hardware.physical.values_mut() {
        physical.vgpus.iter_mut().for_each(|board| board.uniform = uniform);
    }
    let rig = Rig::on(hardware);
    let (engine, _) = rig.open_recovered();
    engine.vf_counts().set("0000:04:00.0", 16, true).unwrap();
    (rig, engine)
}

#[test]
fn a_reserved_vgpu_takes_its_memory() {
    for (whole, half, most) in [("A100-40C", "A100-10C", 4), ("L40S-48Q", "L40S-8Q", 6)] {
        let (_rig, engine) = rig(false);
        assert_eq!(left(&engine, half), most);
        engine.claims().claim(&reserve("one", &[&format!("profile={whole}")])).unwrap();
        assert_eq!((left(&engine, whole), left(&engine, half)), (0, 0), "{whole}");
        for other in [whole, half] {
            let want = format!("profile={other}");
            let refusal = engine.claims().claim(&reserve("two", &[&want])).unwrap_err();
            assert_eq!(refusal.code, Code::InsufficientResources);
            let (_, offered) = refusal.message.split_once("offers only").unwrap();
            assert!(!offered.contains(other), "{refusal}");
            assert!(refusal.remedy.contains("handover release"), "{refusal}");
        }
        engine.claims().prepare("job/one", &Access::default()).unwrap();
    }
}

#[test]
fn as_many_as_fit_are_reserved_and_no_more() {
    let (_rig, engine) = rig(false);
    engine.claims().claim(&reserve("one", &["3xprofile=A100-10C"])).unwrap();
    assert_eq!(left(&engine, "A100-10C"), 1);
    let two = engine.claims().claim(&reserve("two", &["2xprofile=A100-10C"])).unwrap_err();
    assert!(two.remedy.starts_with("request at most 1, or release one"), "{two}");
    // Two wishes of one request count together.
    let wants = ["profile=A100-10C", "profile=A100-10C@0000:03:00.0"];
    refused(&engine, "two", &wants);
    engine.claims().claim(&reserve("two", &["profile=A100-10C"])).unwrap();
    for owner in ["job/one", "job/two"] {
        engine.claims().prepare(owner, &Access::default()).unwrap();
    }
}

/// NVIDIA's drivers keep one size on a GPU, unless their mixed-size mode shows.
#[test]
fn a_reserved_size_excludes_others_where_the_driver_does() {
    let (_rig, engine) = rig(true);
    engine.claims().claim(&reserve("one", &["profile=L40S-4Q"])).unwrap();
    assert_eq!((left(&engine, "L40S-8Q"), left(&engine, "L40S-4Q")), (0, 11));
    refused(&engine, "two", &["profile=L40S-8Q"]);
    let (_rig, engine) = rig(false);
    engine.claims().claim(&request("one", &["profile=L40S-4Q"])).unwrap();
    engine.claims().claim(&reserve("two", &["profile=L40S-8Q"])).unwrap();
    assert_eq!(left(&engine, "L40S-8Q"), 4, "another size is offered, so they can be mixed");
    engine.claims().prepare("job/two", &Access::default()).unwrap();
}

/// Only the driver knows whether sizes can be mixed while no vGPU exists: within one request it decides.
#[test]
fn one_request_can_ask_for_two_sizes() {
    let wants = ["profile=L40S-4Q", "profile=L40S-8Q"];
    let (_rig, engine) = rig(false);
    engine.claims().claim(&request("one", &wants)).unwrap();
    let (rig, engine) = rig(true);
    let before = rig.host.snapshot();
    refused(&engine, "one", &wants);
    assert_eq!(rig.host.snapshot(), before, "rolled back");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is reserved, prepared and released: what the tables call left can be claimed, what they do not cannot,
    /// and every reserved claim can be prepared.
    #[test]
    fn what_is_reserved_can_be_prepared(
        uniform in any::<bool>(),
        turns in proptest::collection::vec((0..4u8, 0..6usize, 1..4u32), 1..12),
    ) {
        let (_rig, engine) = rig(uniform);
        for (turn, (verb, which, count)) in turns.into_iter().enumerate() {
            let owner = format!("o{turn}");
            let profile = PROFILES[which];
            let want = format!("{count}xprofile={profile}");
            match verb {
                0 | 1 => {
                    let room = left(&engine, profile) >= u64::from(count);
                    let made = engine.claims().claim(&reserve(&owner, &[&want]));
                    prop_assert_eq!(made.is_ok(), room, "{}: {:?}", want, made);
                }
                2 => {
                    let room = left(&engine, profile) >= u64::from(count);
                    let made = engine.claims().claim(&request(&owner, &[&want]));
                    prop_assert_eq!(made.is_ok(), room, "{}: {:?}", want, made);
                }
                _ => {
                    let all = engine.claims().all().unwrap();
                    if let Some(one) = all.get(which % all.len().max(1)) {
                        engine.claims().release(&one.id.to_string(), None).unwrap();
                    }
                }
            }
        }
        for claim in engine.claims().all().unwrap() {
            let made = engine.claims().prepare(&claim.id.to_string(), &Access::default());
            prop_assert!(made.is_ok(), "{:?}", made);
        }
    }
}
