//! A table of situations, and how a remedy is followed.

use engine::{Access, Engine, RegisterDevice};
use model::{Code, Holder, HolderKind, Mark, Refusal, Step};
use sim::Hardware;
use uuid::Uuid;

use crate::support::{Rig, at, register, request, wish};

pub type Asked = Result<(), Refusal>;

/// A situation, a request that is refused in it, and what the remedy is.
pub struct Case {
    pub name: &'static str,
    pub hardware: fn() -> Hardware,
    pub arrange: fn(&Rig, &Engine),
    pub ask: fn(&Engine) -> Asked,
    pub code: Code,
    /// Words of the remedy.
    pub says: &'static str,
    /// Of several ways out, the commands with these words.
    pub way: &'static str,
    /// What a person does before the commands.
    pub before: fn(&Rig),
}

pub const NOTHING: fn(&Rig) = |_| {};

pub fn workstation() -> Hardware {
    sim::workstation().into()
}

/// Commands that only show something.
pub const LISTING: [&str; 8] =
    ["claims", "ls", "show", "doctor", "device list", "topo", "image show", "image list"];

/// The commands in a remedy: in backquotes, or after a colon.
pub fn commands(remedy: &str) -> Vec<String> {
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
pub fn follow(rig: &Rig, engine: &Engine, remedy: &str, way: &str) {
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

pub fn run(rig: &Rig, engine: &Engine, command: &str) {
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
        ["handover", "instance", "detach", name, device] => {
            let patience = std::time::Duration::from_secs(1);
            drop(engine.instances().detach_device(name, device, patience).unwrap());
        }
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

pub fn check(case: &Case) {
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

pub fn claims(engine: &Engine, id: &str, wants: &[&str]) -> Asked {
    engine.claims().claim(&request(id, wants)).map(drop)
}

pub fn user(address: &str, pid: u32) -> Holder {
    Holder {
        address: at(address),
        kind: HolderKind::Process,
        pid: Some(pid),
        started: Some(1),
        program: Some("dpdk".into()),
        user: format!("dpdk (pid {pid})"),
        by: "/dev/uio0".into(),
        mdev: None,
        interface: None,
    }
}

pub fn mdev(rig: &Rig, type_id: &str) {
    let (address, uuid) = (at("0000:03:00.0"), Uuid::from_u128(7));
    let type_id = type_id.to_owned();
    rig.host.meddle(&Step::CreateMdev { address, uuid, type_id }).unwrap();
}

pub fn stopped(engine: &Engine, device: &str) {
    register(engine, "part", device).unwrap();
    engine.instances().create(wish("vm", &["part"])).unwrap();
    engine.instances().stop("vm").unwrap();
}

pub fn mark(store: u128) -> Mark {
    Mark {
        store: Uuid::from_u128(store),
        claim: Uuid::from_u128(9),
        state_dir: "/srv/other".into(),
    }
}
