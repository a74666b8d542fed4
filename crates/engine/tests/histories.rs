//! Random histories with faults, crashes and reboots. proptest prints a failing history and stores its seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::{
    CardWish, CreateVolume, DeviceWish, DiskWish, Engine, InstanceState, NewVolume, WantedContent,
};
use model::{CardLink, ClaimState, Code, DiskFormat};
use proptest::prelude::*;
use sim::{Fault, SimLauncher, When};
use support::{Rig, wish};
use uuid::Uuid;

const DEVICES: [&str; 4] = ["gpu", "amd", "nic", "nvme"];
const ADDRESSES: [&str; 4] = [support::GPU, support::AMD, support::NIC, support::NVME];
const VOLUMES: [&str; 2] = ["data", "more"];
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Verb {
    Create(usize, Vec<usize>),
    Start(usize),
    Stop(usize),
    Delete(usize),
    Attach(usize, usize),
    Detach(usize, usize),
    AttachDisk(usize, usize),
    DetachDisk(usize, usize),
    AttachCard(usize),
    DetachCard(usize),
}

#[derive(Clone, Debug)]
enum Event {
    Do(Verb),
    /// The daemon is killed at the given boundary of the verb, and again at the given boundary of the recovery.
    Crash(Verb, i64, i64),
    Fault(u64, bool),
    Release,
    GuestExits(usize),
    /// The guest no longer lets go of devices, or does so now.
    Stubborn(usize, bool),
    Ejects(usize, usize),
    Resets(usize),
    RefusePlug(usize),
    LookAfter,
    RefuseLaunch,
    Restart,
    Reboot,
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        4 => (0..3usize, proptest::collection::vec(0..4usize, 0..3)).prop_map(|(n, d)| Verb::Create(n, d)),
        1 => (0..3usize).prop_map(Verb::Start),
        1 => (0..3usize).prop_map(Verb::Stop),
        2 => (0..3usize).prop_map(Verb::Delete),
        3 => (0..3usize, 0..4usize).prop_map(|(n, d)| Verb::Attach(n, d)),
        2 => (0..3usize, 0..4usize).prop_map(|(n, d)| Verb::Detach(n, d)),
        2 => (0..3usize, 0..2usize).prop_map(|(n, v)| Verb::AttachDisk(n, v)),
        2 => (0..3usize, 0..2usize).prop_map(|(n, v)| Verb::DetachDisk(n, v)),
        1 => (0..3usize).prop_map(Verb::AttachCard),
        1 => (0..3usize).prop_map(Verb::DetachCard),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => verb().prop_map(Event::Do),
        4 => (verb(), 0..60i64, 0..40i64).prop_map(|(v, n, m)| Event::Crash(v, n, m)),
        2 => (0..20u64, any::<bool>()).prop_map(|(n, hang)| Event::Fault(n, hang)),
        1 => Just(Event::Release),
        1 => (0..3usize).prop_map(Event::GuestExits),
        1 => (0..3usize, any::<bool>()).prop_map(|(n, stubborn)| Event::Stubborn(n, stubborn)),
        1 => (0..3usize, 0..4usize).prop_map(|(n, d)| Event::Ejects(n, d)),
        1 => (0..3usize).prop_map(Event::Resets),
        1 => (0..2usize).prop_map(Event::RefusePlug),
        1 => Just(Event::LookAfter),
        1 => Just(Event::RefuseLaunch),
        1 => Just(Event::Restart),
        1 => Just(Event::Reboot),
    ]
}

/// Any refusal is fine, except unusable state and internal errors.
fn act(engine: &Engine, verb: &Verb) {
    let result = match verb {
        Verb::Create(name, devices) => {
            let devices: BTreeSet<&str> = devices.iter().map(|index| DEVICES[*index]).collect();
            let devices: Vec<&str> = devices.into_iter().collect();
            engine.instances().create(wish(NAMES[*name], &devices)).map(drop)
        }
        Verb::Start(name) => engine.instances().start(NAMES[*name]).map(drop),
        Verb::Stop(name) => engine.instances().stop(NAMES[*name]).map(drop),
        Verb::Delete(name) => engine.instances().delete(NAMES[*name]),
        Verb::Attach(name, device) => {
            let wish = DeviceWish::Registered(DEVICES[*device].into());
            engine.instances().attach_device(NAMES[*name], &wish).map(drop)
        }
        Verb::Detach(name, device) => {
            let instances = engine.instances();
            instances.detach_device(NAMES[*name], DEVICES[*device], Duration::ZERO).map(drop)
        }
        Verb::AttachDisk(name, volume) => {
            let content = WantedContent::Volume(VOLUMES[*volume].into());
            let wish =
                DiskWish { content, bus: None, serial: None, read_only: false, mount_path: None };
            engine.instances().attach(NAMES[*name], &wish).map(drop)
        }
        Verb::DetachDisk(name, volume) => {
            let instances = engine.instances();
            instances.detach_within(NAMES[*name], VOLUMES[*volume], Duration::ZERO).map(drop)
        }
        Verb::AttachCard(name) => {
            let link = CardLink::Bridge { bridge: "br0".into() };
            let card = CardWish { link, ..CardWish::default() };
            engine.instances().attach_card(NAMES[*name], card).map(drop)
        }
        Verb::DetachCard(name) => {
            let instances = engine.instances();
            instances.find(NAMES[*name]).and_then(|instance| {
                let last = instance.options.cards.last().map(|card| card.mac);
                let mac = last.unwrap_or(model::Mac([2; 6]));
                instances.detach_card(NAMES[*name], mac, Duration::ZERO).map(drop)
            })
        }
    };
    if let Err(refusal) = result {
        assert_ne!(refusal.code, Code::StateUnusable, "{refusal}");
        assert_ne!(refusal.code, Code::Internal, "{refusal}");
    }
}

/// Checks that no function has two claims, every claim has an owner, and machines run exactly as recorded.
fn check(rig: &Rig, engine: &Engine) {
    let instances = engine.instances().all(&BTreeMap::new()).unwrap();
    let running = rig.launcher.running();
    for id in &running {
        assert!(instances.iter().any(|instance| instance.id == *id), "{id} belongs to no instance");
    }
    for instance in instances.iter().filter(|i| i.state == InstanceState::Stopped) {
        assert!(!running.contains(&instance.id), "{instance:?}");
    }
    let mut given = BTreeSet::new();
    for claim in engine.claims().all().unwrap() {
        for address in claim.taken() {
            assert!(given.insert(address), "{address} has two claims");
        }
        let owned = instances.iter().any(|instance| instance.id.to_string() == claim.owner.id);
        assert!(owned || claim.state == ClaimState::Wedged, "a claim without an owner: {claim:?}");
    }
    for id in running {
        for address in rig.launcher.ports(id).into_values().flatten() {
            assert!(given.contains(&address), "a machine has {address} without a claim");
        }
        let options = &instances.iter().find(|instance| instance.id == id).unwrap().options;
        let recorded: BTreeSet<u32> = options.part_ports().collect();
        let (parts, open) = rig.launcher.parts(id);
        assert!(open.is_subset(&recorded), "{id} has {open:?} open, and {recorded:?} is recorded");
        assert!(parts.iter().all(|part| open.contains(&part.port)), "{parts:?} without a file");
    }
    let now = rig.host.snapshot();
    for (address, state) in &now.functions {
        assert!(
            given.contains(address) || *state == rig.before.functions[address],
            "{address} is unclaimed and not restored: {state:?}"
        );
    }
}

/// What a guest does with its devices.
fn guest(launcher: &SimLauncher, id: Uuid, event: &Event) {
    match event {
        Event::Stubborn(_, stubborn) => launcher.set_stubborn(id, *stubborn),
        Event::Ejects(_, device) => drop(launcher.eject(id, support::at(ADDRESSES[*device]))),
        _ => launcher.reset(id),
    }
}

fn play(events: &[Event]) {
    let rig = Rig::ready();
    let (mut engine, _) = rig.open_recovered();
    for name in VOLUMES {
        let file = NewVolume { size: 1 << 20, format: DiskFormat::Raw, allocate: false };
        let volume = CreateVolume { name: name.into(), id: None, file, tags: BTreeMap::new() };
        engine.volumes().create(volume).unwrap();
    }
    for event in events {
        match event {
            Event::Do(verb) => act(&engine, verb),
            Event::Crash(verb, boundary, again) => {
                drop(engine);
                rig.killed_at(*boundary, |engine| act(engine, verb));
                rig.killed_at(*again, |engine| drop(engine.recover().unwrap()));
                engine = rig.open_recovered().0;
            }
            Event::Fault(nth, hang) => {
                rig.host.fault(When::Nth(*nth), if *hang { Fault::Hang } else { Fault::Refuse });
            }
            Event::Release => rig.host.release(),
            Event::GuestExits(name) => {
                if let Ok(instance) = engine.instances().find(NAMES[*name]) {
                    rig.launcher.exit(instance.id, 0);
                }
            }
            Event::Stubborn(name, _) | Event::Ejects(name, _) | Event::Resets(name) => {
                if let Ok(instance) = engine.instances().find(NAMES[*name]) {
                    guest(&rig.launcher, instance.id, event);
                }
            }
            Event::RefusePlug(after) => rig.launcher.refuse_next_plug("a fault", *after),
            Event::LookAfter => drop(engine.check_claims()),
            Event::RefuseLaunch => rig.launcher.refuse_next("a fault"),
            Event::Restart => {
                drop(engine);
                engine = rig.open_recovered().0;
            }
            Event::Reboot => {
                drop(engine);
                rig.host.reboot();
                rig.launcher.reboot();
                engine = rig.open_recovered().0;
            }
        }
        check(&rig, &engine);
    }
    // Without faults, everything can be restored.
    rig.host.clear_faults();
    rig.host.release();
    drop(engine);
    let (engine, _) = rig.open_recovered();
    for device in DEVICES {
        engine.devices().clear(device).unwrap();
    }
    for instance in engine.instances().all(&BTreeMap::new()).unwrap() {
        engine.instances().delete(&instance.name).unwrap();
    }
    rig.assert_untouched("at the end");
    VOLUMES.iter().for_each(|name| engine.volumes().delete(name).unwrap());
    assert!(engine.claims().all().unwrap().is_empty());
}

/// Few cases by default, because each history opens the store many times; `PROPTEST_CASES=1000` searches longer.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 64 };
    ProptestConfig { cases, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_history_ends_well(events in proptest::collection::vec(event(), 1..14)) {
        play(&events);
    }
}
