//! Each remedy leads out: after a refusal, what it says is done literally, and the same request succeeds.
//!
//! `table::follow` reads the commands in a remedy and runs them on the engine and the simulated host. What a person does beside
//! Handover (power the host off, install a package) is in the case.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod partitions;
#[path = "../support/mod.rs"]
mod support;
mod table;

use engine::{Access, ClaimRequest, ClaimStep, Engine};
use model::{Code, Step};
use sim::{Fault, When};
use support::{GPU, NIC, NVME, Rig, at, owner, register, request, wish};
use table::{Asked, Case, NOTHING, check, claims, commands, mark, stopped, user, workstation};

#[test]
#[allow(clippy::too_many_lines, reason = "a table of situations")]
fn of_devices_that_claims_and_instances_have() {
    let nic: fn(&Engine) -> Asked = |engine| claims(engine, "two", &[NIC]);
    let case = |name, says, arrange, ask, code| Case {
        name,
        hardware: workstation,
        arrange,
        ask,
        code,
        says,
        way: "",
        before: NOTHING,
    };
    let stopped_nic: fn(&Rig, &Engine) = |_, engine| stopped(engine, NIC);
    let claimed_nic: fn(&Rig, &Engine) = |_, engine| claims(engine, "one", &[NIC]).unwrap();
    for case in [
        case("a claim", "handover release", claimed_nic, nic, Code::InUse),
        case(
            "a stopped instance",
            "`handover instance detach vm 0000:03:00.0`",
            stopped_nic,
            nic,
            Code::InUse,
        ),
        case(
            "by hand, of another owner",
            "handover release",
            |_, engine| claims(engine, "one", &[NIC]).unwrap(),
            |engine| engine.devices().bind(NIC, None, None, false).map(drop),
            Code::InUse,
        ),
        case(
            "registered twice",
            "`handover device rm part`",
            |_, engine| drop(register(engine, "part", NIC).unwrap()),
            |engine| register(engine, "other", NIC).map(drop),
            Code::Conflict,
        ),
        case(
            "not registered",
            "`handover device add 0000:03:00.0`",
            |_, _| {},
            |engine| engine.instances().create(wish("vm", &[NIC])).map(drop),
            Code::NotFound,
        ),
        case(
            "the registration of an instance's device",
            "`handover instance detach vm 0000:03:00.0`",
            stopped_nic,
            |engine| engine.devices().delete("part"),
            Code::InUse,
        ),
        case(
            "an instance of that name",
            "`handover instance rm vm`",
            stopped_nic,
            |engine| engine.instances().create(wish("vm", &[])).map(drop),
            Code::NameConflict,
        ),
        case(
            "an image in use",
            "`handover instance rm vm`",
            stopped_nic,
            |engine| engine.images().delete("debian"),
            Code::InUse,
        ),
        Case {
            way: "instance stop",
            ..case(
                "a running instance",
                "`handover instance stop vm`",
                |_, engine| drop(engine.instances().create(wish("vm", &[])).unwrap()),
                |engine| engine.instances().start("vm").map(drop),
                Code::InvalidState,
            )
        },
        case(
            "prepared for another user",
            "`handover unprepare",
            claimed_nic,
            |engine| {
                let other = ClaimRequest { uid: Some(1000), ..request("one", &[NIC]) };
                engine.claims().claim(&other).map(drop)
            },
            Code::Conflict,
        ),
        case(
            "prepared, and another tool took the device",
            "`handover unprepare",
            |rig, engine| {
                claims(engine, "one", &[NIC]).unwrap();
                rig.host.change(at(NIC), |state| state.driver = Some("e1000e".into()));
            },
            |engine| engine.claims().prepare("job/one", &Access::default()).map(drop),
            Code::InvalidState,
        ),
        case(
            "a reset of a claim that is only reserved",
            "`handover prepare",
            |_, engine| {
                let step = ClaimStep::Reserve;
                let reserve = ClaimRequest { step, ..request("one", &[GPU]) };
                engine.claims().claim(&reserve).unwrap();
            },
            |engine| engine.claims().reset("job/one", at(GPU)),
            Code::InvalidState,
        ),
        case(
            "one of several devices of a claim",
            "`handover release",
            |_, engine| claims(engine, "one", &[NIC, NVME]).unwrap(),
            |engine| engine.devices().unbind(NIC, Some(owner("one"))).map(drop),
            Code::InvalidState,
        ),
        case(
            "on vfio by another tool",
            "`handover return 0000:03:00.0`",
            |rig, _| {
                rig.host.change(at(NIC), |state| {
                    state.driver = Some("vfio-pci".into());
                    state.driver_override = Some("vfio-pci".into());
                });
            },
            |engine| engine.devices().unbind(NIC, None).map(drop),
            Code::InvalidState,
        ),
    ] {
        check(&case);
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of situations")]
fn of_marks_and_of_devices_that_need_attention() {
    let nic: fn(&Engine) -> Asked = |engine| claims(engine, "two", &[NIC]);
    let case = |name, says, way, arrange, before, code| Case {
        name,
        hardware: workstation,
        arrange,
        ask: nic,
        code,
        says,
        way,
        before,
    };
    let silent: fn(&Rig, &Engine) = |rig, engine| {
        claims(engine, "one", &[NIC]).unwrap();
        rig.host.lose_link(at(NIC));
        assert_eq!(engine.devices().quarantine_silent().unwrap().len(), 1);
        let refusal = engine.claims().release("job/one", None).unwrap_err();
        assert!(refusal.remedy.contains("cut its power"), "{refusal:?}");
        let refusal = engine.devices().clear(NIC).unwrap_err();
        assert!(refusal.remedy.contains("cut its power"), "{refusal:?}");
    };
    for case in [
        case(
            "another store's mark",
            "is gone for good: `handover device clear 0000:03:00.0`",
            "device clear",
            |rig, _| rig.host.change(at(NIC), |state| state.mark = Some(mark(1))),
            NOTHING,
            Code::InUse,
        ),
        case(
            "a mark without a claim",
            "`handover return 0000:03:00.0`",
            "",
            |rig, engine| {
                claims(engine, "one", &[NIC]).unwrap();
                let claims = rig.sqlite();
                claims.pragma_update(None, "foreign_keys", false).unwrap();
                claims.execute("DELETE FROM claims", []).unwrap();
            },
            NOTHING,
            Code::InUse,
        ),
        case(
            "a device that lost its link",
            "cut its power",
            "device clear",
            silent,
            |rig| rig.host.regain_link(at(NIC)),
            Code::DeviceWedged,
        ),
        case(
            "a device that could not be returned to its driver",
            "`handover device clear 0000:03:00.0`",
            "device clear",
            |rig, engine| {
                claims(engine, "one", &[NIC]).unwrap();
                let back = |step: &Step| matches!(step, Step::Return { .. });
                rig.host.fault(When::Step(Box::new(back)), Fault::Refuse);
                let refusal = engine.claims().release("job/one", None).unwrap_err();
                assert_eq!(refusal.code, Code::UndoFailed, "{refusal:?}");
                assert!(refusal.remedy.contains("`handover device clear"), "{refusal:?}");
            },
            NOTHING,
            Code::DeviceWedged,
        ),
        case(
            "a step that does not return",
            "`handover device clear 0000:03:00.0`",
            "device clear",
            |rig, engine| {
                let bind = |step: &Step| matches!(step, Step::Bind { .. });
                rig.host.fault(When::Step(Box::new(bind)), Fault::Hang);
                claims(engine, "one", &[NIC]).unwrap_err();
            },
            |rig| rig.host.release(),
            Code::DeviceWedged,
        ),
    ] {
        check(&case);
    }
}

#[test]
fn of_users() {
    let case = |name, says, arrange, ask| Case {
        name,
        hardware: workstation,
        arrange,
        ask,
        code: Code::InUse,
        says,
        way: "kill",
        before: NOTHING,
    };
    let evict: fn(&Engine) -> Asked = |engine| {
        engine.claims().claim(&ClaimRequest { evict: true, ..request("two", &[NIC]) }).map(drop)
    };
    for case in [
        case(
            "a process",
            "--evict",
            |rig, _| rig.host.hold(user(NIC, 4711)),
            |engine| claims(engine, "two", &[NIC]),
        ),
        case(
            "a process that ignores SIGTERM",
            "`kill -9 4711`",
            |rig, _| rig.host.hold_stubbornly(user(NIC, 4711)),
            evict,
        ),
    ] {
        check(&case);
    }
}

/// A VMM is never asked to exit, and requests without the option do not hear of it.
#[test]
fn evict_is_suggested_only_where_it_helps() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    assert!(
        rig.host.open_group(4, 4711) || {
            // The group's node exists only once a claim made it.
            claims(&engine, "one", &[NIC]).unwrap();
            rig.host.open_group(4, 4711)
        }
    );
    let refusal = engine.claims().release("job/one", None).unwrap_err();
    assert_eq!(refusal.code, Code::InUse, "{refusal}");
    assert!(refusal.remedy.contains("shut down the machine"), "{refusal:?}");
    assert!(!refusal.remedy.contains("evict") && !refusal.remedy.contains("kill"), "{refusal:?}");
    rig.host.let_go(4711);
    engine.claims().release("job/one", None).unwrap();

    rig.host.hold(user(NIC, 4712));
    let refusal = engine.instances().create(wish("vm", &["nic"])).unwrap_err();
    assert!(!refusal.remedy.contains("evict"), "{refusal:?}");
    let refusal = claims(&engine, "two", &[NIC]).unwrap_err();
    assert!(refusal.remedy.contains("--evict"), "{refusal:?}");
    let evict = ClaimRequest { evict: true, ..request("two", &[NIC]) };
    engine.claims().claim(&evict).unwrap();
}

/// On a host without systemd or D-Bus, only a person can stop NVIDIA's persistence daemon.
#[test]
fn of_the_persistence_daemon_without_systemd() {
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    let before = rig.host.snapshot();
    let persistence = |step: &Step| matches!(step, Step::SetPersistence { .. });
    let unit = |step: &Step| matches!(step, Step::SetUnit { .. });
    rig.host.fault(When::Step(Box::new(persistence)), Fault::Refuse);
    rig.host.fault(When::Step(Box::new(unit)), Fault::Refuse);
    let refusal = claims(&engine, "one", &["0000:05:00.0"]).unwrap_err();
    assert_eq!(refusal.code, Code::InUse, "{refusal:?}");
    assert!(refusal.message.contains("nvidia-persistenced (pid 900"), "{refusal:?}");
    assert!(refusal.remedy.contains("stop the service nvidia-persistenced.service"), "{refusal:?}");
    assert_eq!(rig.host.snapshot(), before);
    let stop = Step::SetUnit {
        address: at("0000:05:00.0"),
        unit: "nvidia-persistenced.service".into(),
        from: true,
        to: false,
    };
    rig.host.meddle(&stop).unwrap();
    claims(&engine, "one", &["0000:05:00.0"]).unwrap();
}

/// What a request must say otherwise.
#[test]
fn of_requests_with_another_option_or_number() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let two = || request("one", &["2xgpu"]);
    let refusal = engine.claims().claim(&two()).unwrap_err();
    assert!(refusal.remedy.contains("--mixed"), "{refusal:?}");
    engine.claims().claim(&ClaimRequest { mixed: true, ..two() }).unwrap();
    engine.claims().release("job/one", None).unwrap();

    let refusal = engine.claims().claim(&request("one", &["9xnic"])).unwrap_err();
    assert!(refusal.remedy.contains("request at most 1"), "{refusal:?}");
    claims(&engine, "one", &["1xnic"]).unwrap();
    engine.claims().release("job/one", None).unwrap();

    let boot = || ClaimRequest { at_boot: true, ..request("one", &[NIC]) };
    let journal = engine.journal(99).unwrap();
    rig.host.set_initramfs_tool(false);
    for refusal in
        [engine.claims().dry_run(&boot()).unwrap_err(), engine.claims().claim(&boot()).unwrap_err()]
    {
        assert_eq!(refusal.code, Code::InvalidState);
        assert!(refusal.remedy.contains("apt install initramfs-tools"), "{refusal:?}");
    }
    rig.assert_untouched("refused before anything was claimed");
    assert!(engine.claims().all().unwrap().is_empty());
    assert_eq!(engine.journal(99).unwrap(), journal);
    rig.host.set_initramfs_tool(true);
    engine.claims().claim(&boot()).unwrap();
    engine.claims().release("job/one", None).unwrap();

    claims(&engine, "one", &[NIC]).unwrap();
    let refusal = engine.devices().unbind(NIC, None).unwrap_err();
    assert!(refusal.remedy.contains("`--owner job/one`"), "{refusal:?}");
    engine.devices().unbind(NIC, Some(owner("one"))).unwrap();

    claims(&engine, "one", &[NIC]).unwrap();
    claims(&engine, "one", &[NVME]).unwrap();
    let refusal = engine.claims().release("job/one", None).unwrap_err();
    assert!(refusal.remedy.contains("`handover claims` lists them"), "{refusal:?}");
    for claim in engine.claims().all().unwrap() {
        engine.claims().release(&claim.id.to_string(), None).unwrap();
    }

    let define = ClaimRequest { define: true, ..request("one", &[NIC]) };
    let refusal = engine.claims().claim(&define).unwrap_err();
    assert!(refusal.remedy.contains("without a definition"), "{refusal:?}");
    claims(&engine, "one", &[NIC]).unwrap();

    rig.host.use_network(at(GPU), "x");
    let refusal = engine.claims().claim(&request("two", &[GPU])).unwrap_err();
    assert!(refusal.remedy.contains("--force-network"), "{refusal:?}");
    let force = ClaimRequest { force_network: true, ..request("two", &[GPU]) };
    engine.claims().claim(&force).unwrap();
}

/// The host itself is the reason, and a claim of any kind says so.
#[test]
fn of_hosts_without_protection() {
    let with = |change: fn(&mut model::Inventory)| {
        let mut inventory = sim::workstation();
        change(&mut inventory);
        inventory
    };
    let none = with(|host| {
        host.vfio.iommu = false;
        host.groups.clear();
        host.functions.values_mut().for_each(|function| function.iommu_group = None);
    });
    let unmapped = with(|host| host.vfio.unmapped_interrupts = true);
    for (inventory, says) in [(none, "no active IOMMU"), (unmapped, "does not remap interrupts")] {
        let rig = Rig::on(inventory);
        let (engine, _) = rig.open_recovered();
        for want in ["gpu", "2xgpu", "nic", GPU, NIC] {
            for refusal in [
                claims(&engine, "one", &[want]).unwrap_err(),
                engine.claims().dry_run(&request("one", &[want])).unwrap_err(),
            ] {
                assert_eq!(refusal.code, Code::NoIommu, "{want}: {refusal:?}");
                assert!(refusal.message.contains(says), "{want}: {refusal:?}");
            }
        }
        let refusal = register(&engine, "gpu", GPU).unwrap_err();
        assert_eq!(refusal.code, Code::NoIommu);
        rig.assert_untouched(says);
    }
}

#[test]
fn commands_are_found_in_remedies() {
    assert_eq!(commands("run `a b` first, or `c`"), ["a b", "c"]);
    let bare = "handover sriov set X 0 && handover sriov set X 4 --autoprobe";
    assert_eq!(commands(bare), ["handover sriov set X 0", "handover sriov set X 4 --autoprobe"]);
}
