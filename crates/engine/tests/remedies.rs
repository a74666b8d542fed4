//! Each remedy leads out: after a refusal, what it says is done literally, and the same request succeeds.
//!
//! [`follow`] reads the commands in a remedy and runs them on the engine and the simulated host. What a person does beside
//! Handover (power the host off, install a package) is in the case.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{Access, ClaimRequest, ClaimStep, Engine, RegisterDevice};
use model::{Code, Holder, HolderKind, Mark, Refusal, Step};
use sim::{Fault, Hardware, When};
use support::{GPU, NIC, NVME, Rig, at, owner, register, request, wish};
use uuid::Uuid;

type Asked = Result<(), Refusal>;

/// A situation, a request that is refused in it, and what the remedy is.
struct Case {
    name: &'static str,
    hardware: fn() -> Hardware,
    arrange: fn(&Rig, &Engine),
    ask: fn(&Engine) -> Asked,
    code: Code,
    /// Words of the remedy.
    says: &'static str,
    /// Of several ways out, the commands with these words.
    way: &'static str,
    /// What a person does before the commands.
    before: fn(&Rig),
}

const NOTHING: fn(&Rig) = |_| {};

fn workstation() -> Hardware {
    sim::workstation().into()
}

/// Commands that only show something.
const LISTING: [&str; 8] =
    ["claims", "ls", "show", "doctor", "device list", "topo", "image show", "image list"];

/// The commands in a remedy: in backquotes, or after a colon.
fn commands(remedy: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (place, part) in remedy.split('`').enumerate() {
        if place % 2 == 1 {
            found.push(part.to_owned());
        } else if let Some(start) = part.find("handover ") {
            let bare = part.get(start..).unwrap();
            found
                .extend(bare.split(" && ").map(|one| one.split([';', ',']).next().unwrap().into()));
        }
    }
    found
}

/// Does what a remedy says.
fn follow(rig: &Rig, engine: &Engine, remedy: &str, way: &str) {
    let mut done = 0;
    for command in commands(remedy) {
        if !command.contains(way) {
            continue;
        }
        let shown = command.strip_prefix("handover ").unwrap_or_default();
        if LISTING.iter().any(|listing| shown.starts_with(listing)) || command.starts_with("lspci")
        {
            continue;
        }
        run(rig, engine, &command);
        done += 1;
    }
    assert!(done > 0, "no command in {remedy:?}");
}

fn run(rig: &Rig, engine: &Engine, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["handover", "release", key] => drop(engine.claims().release(key, None).unwrap()),
        ["handover", "unprepare", key] => drop(engine.claims().unprepare(key).unwrap()),
        ["handover", "prepare", key] => {
            drop(engine.claims().prepare(key, &Access::default()).unwrap());
        }
        ["handover", "return", address] => {
            drop(engine.devices().return_unclaimed(&[at(address)]).unwrap());
        }
        ["handover", "instance", "rm", name] => engine.instances().delete(name).unwrap(),
        ["handover", "instance", "stop", name] => drop(engine.instances().stop(name).unwrap()),
        ["handover", "image", "rm", name] => engine.images().delete(name).unwrap(),
        ["handover", "device", "rm", name] => engine.devices().delete(name).unwrap(),
        ["handover", "device", "clear", name] => drop(engine.devices().clear(name).unwrap()),
        ["handover", "device", "add", address] => {
            let request =
                RegisterDevice { address: (*address).into(), ..RegisterDevice::default() };
            drop(engine.devices().register(request).unwrap());
        }
        ["handover", "sriov", "set", address, count, rest @ ..] => {
            let autoprobe = rest.contains(&"--autoprobe");
            engine.vf_counts().set(address, count.parse().unwrap(), autoprobe).unwrap();
        }
        ["kill", pid] | ["kill", "-9", pid] => rig.host.let_go(pid.parse().unwrap()),
        ["echo", "1", ">", path] => {
            let uuid: Uuid = path.split('/').nth(5).unwrap().parse().unwrap();
            let mdev = rig.host.snapshot().mdevs[&uuid].clone();
            let (address, type_id) = (mdev.parent, mdev.type_id);
            rig.host.meddle(&Step::RemoveMdev { address, uuid, type_id }).unwrap();
        }
        _ => panic!("{command:?} is no command"),
    }
}

fn check(case: &Case) {
    let rig = Rig::on((case.hardware)());
    let (engine, _) = rig.open_recovered();
    rig.import(&engine, "debian");
    (case.arrange)(&rig, &engine);
    let refusal = (case.ask)(&engine).unwrap_err();
    let name = case.name;
    assert_eq!(refusal.code, case.code, "{name}: {refusal:?}");
    assert!(refusal.remedy.contains(case.says), "{name}: {refusal:?}");
    (case.before)(&rig);
    follow(&rig, &engine, &refusal.remedy, case.way);
    (case.ask)(&engine).unwrap_or_else(|again| panic!("{name}: {again:?} after {refusal:?}"));
}

fn claims(engine: &Engine, id: &str, wants: &[&str]) -> Asked {
    engine.claims().claim(&request(id, wants)).map(drop)
}

fn user(address: &str, pid: u32) -> Holder {
    Holder {
        address: at(address),
        kind: HolderKind::Process,
        pid: Some(pid),
        started: Some(1),
        program: Some("dpdk".into()),
        user: format!("dpdk (pid {pid})"),
        by: "/dev/uio0".into(),
        mdev: None,
    }
}

fn mdev(rig: &Rig, type_id: &str) {
    let (address, uuid) = (at("0000:03:00.0"), Uuid::from_u128(7));
    let type_id = type_id.to_owned();
    rig.host.meddle(&Step::CreateMdev { address, uuid, type_id }).unwrap();
}

fn stopped(engine: &Engine, device: &str) {
    register(engine, "part", device).unwrap();
    engine.instances().create(wish("vm", &["part"])).unwrap();
    engine.instances().stop("vm").unwrap();
}

fn mark(store: u128) -> Mark {
    Mark {
        store: Uuid::from_u128(store),
        claim: Uuid::from_u128(9),
        state_dir: "/srv/other".into(),
    }
}

#[test]
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
        case("a stopped instance", "`handover instance rm vm`", stopped_nic, nic, Code::InUse),
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
            "`handover instance rm vm`",
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
        case(
            "a running instance",
            "`handover instance stop vm`",
            |_, engine| drop(engine.instances().create(wish("vm", &[])).unwrap()),
            |engine| engine.instances().start("vm").map(drop),
            Code::InvalidState,
        ),
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

#[test]
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
            "`handover instance rm vm`",
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
            "`handover instance rm vm`",
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
