//! Remedies of partitions.

use engine::{Access, ClaimRequest, ClaimStep, Engine};
use model::{Code, Step};
use sim::Hardware;
use uuid::Uuid;

use crate::support::{Rig, at, request};
use crate::table::{Case, NOTHING, check, claims, mdev, stopped};

#[test]
#[allow(clippy::too_many_lines, reason = "a table of situations")]
fn of_partitions() {
    let server: fn() -> Hardware = sim::server;
    let case = |name, says, way, arrange, ask, code| Case {
        name,
        hardware: server,
        arrange,
        ask,
        code,
        says,
        way,
        before: NOTHING,
    };
    let vfs: fn(&Rig, &Engine) =
        |_, engine| engine.vf_counts().set("0000:01:00.0", 4, false).unwrap();
    for case in [
        case(
            "no virtual functions",
            "handover sriov set 0000:01:00.0 8",
            "",
            |_, _| {},
            |engine| claims(engine, "one", &["vf@0000:01:00.0"]),
            Code::InsufficientResources,
        ),
        case(
            "a device with virtual functions",
            "handover sriov set 0000:01:00.0 0",
            "",
            vfs,
            |engine| claims(engine, "one", &["0000:01:00.0"]),
            Code::InUse,
        ),
        case(
            "another number of virtual functions, of which one is claimed",
            "handover release",
            "",
            |rig, engine| {
                engine.vf_counts().set("0000:01:00.0", 4, false).unwrap();
                claims(engine, "one", &["vf@0000:01:00.0"]).unwrap();
                let _ = rig;
            },
            |engine| engine.vf_counts().set("0000:01:00.0", 0, false),
            Code::InUse,
        ),
        case(
            "another number of virtual functions, of which a stopped instance has one",
            "`handover instance detach vm ",
            "",
            |_, engine| {
                engine.vf_counts().set("0000:01:00.0", 4, false).unwrap();
                stopped(engine, "0000:01:10.0");
            },
            |engine| engine.vf_counts().set("0000:01:00.0", 0, false),
            Code::InUse,
        ),
        case(
            "a device of whose functions a stopped instance has one",
            "`handover instance detach vm ",
            "",
            |_, engine| {
                engine.vf_counts().set("0000:01:00.0", 4, false).unwrap();
                stopped(engine, "0000:01:10.0");
            },
            // Without the instance it has functions that are unused: the next remedy removes them.
            |engine| match claims(engine, "one", &["0000:01:00.0"]) {
                Err(refusal) if refusal.remedy.contains("sriov set 0000:01:00.0 0") => {
                    engine.vf_counts().set("0000:01:00.0", 0, false).unwrap();
                    claims(engine, "one", &["0000:01:00.0"])
                }
                other => other,
            },
            Code::InUse,
        ),
        case(
            "a parent of another tool's mediated device",
            "/remove`",
            "echo",
            |rig, _| mdev(rig, "nvidia-468"),
            |engine| claims(engine, "one", &["0000:03:00.0"]),
            Code::InUse,
        ),
        case(
            "a vGPU on functions without a driver",
            "--autoprobe",
            "",
            |_, engine| engine.vf_counts().set("0000:04:00.0", 16, false).unwrap(),
            |engine| claims(engine, "one", &["profile=L40S-8Q@0000:04:00.0"]),
            Code::InsufficientResources,
        ),
        case(
            "another tool's mediated device takes the room",
            "00000000-0000-0000-0000-000000000007",
            "echo",
            |rig, _| mdev(rig, "nvidia-472"),
            |engine| claims(engine, "one", &["profile=A100-10C"]),
            Code::InsufficientResources,
        ),
        case(
            "a claim's vGPU takes the room",
            "handover release",
            "",
            |_, engine| claims(engine, "one", &["profile=A100-40C"]).unwrap(),
            |engine| claims(engine, "two", &["profile=A100-40C"]),
            Code::InsufficientResources,
        ),
    ] {
        check(&case);
    }
}

/// An unknown profile is answered with those that there are.
#[test]
fn of_profiles_that_no_gpu_has() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    for want in ["profile=A100-7X", "profile=A100-7X@0000:03:00.0"] {
        let refusal = claims(&engine, "one", &[want]).unwrap_err();
        assert_eq!(refusal.code, Code::InsufficientResources);
        for name in ["A100-4C", "A100-10C", "A100-40C"] {
            assert!(refusal.message.contains(name), "{refusal}");
        }
        assert_eq!(refusal.remedy, "request one of those");
        let dry = engine.claims().dry_run(&request("one", &[want])).unwrap_err();
        assert_eq!(dry, refusal, "a dry run says the same");
    }
    claims(&engine, "one", &["profile=A100-10C"]).unwrap();
    let none = claims(&engine, "two", &["profile=A100-7X@0000:05:00.0"]).unwrap_err();
    assert!(none.message.contains("0000:05:00.0 offers no vGPUs"), "{none}");
}

/// Types that the vendor's driver no longer offers are refused before anything is planned or changed.
#[test]
fn of_types_that_the_parent_does_not_offer() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let parent = at("0000:03:00.0");
    let uuid = Uuid::from_u128(5);
    let (type_id, attributes) = ("nvidia-999".to_owned(), Vec::new());
    let define = Step::DefineMdev { address: parent, uuid, type_id, attributes };
    rig.host.meddle(&define).unwrap();
    let want = format!("mdev={uuid}");
    for refusal in [
        engine.claims().dry_run(&request("one", &[&want])).unwrap_err(),
        claims(&engine, "one", &[&want]).unwrap_err(),
    ] {
        assert_eq!(refusal.code, Code::InvalidState, "{refusal:?}");
        assert!(refusal.message.contains("nvidia-999") && refusal.message.contains("nvidia-470"));
    }
    assert!(engine.claims().all().unwrap().is_empty());
    // Reserved; then another tool takes the room.
    let step = ClaimStep::Reserve;
    let reserve = ClaimRequest { step, ..request("two", &["profile=A100-10C"]) };
    engine.claims().claim(&reserve).unwrap();
    mdev(&rig, "nvidia-472");
    let refusal = engine.claims().dry_run(&reserve).unwrap_err();
    assert_eq!(refusal.code, Code::InsufficientResources, "{refusal:?}");
    let performed = rig.host.performed();
    engine.claims().prepare("job/two", &Access::default()).unwrap_err();
    assert_eq!(rig.host.performed(), performed, "nothing was even tried");
}
