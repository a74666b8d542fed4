//! An inventory that is updated by uevents equals a fresh read, for any changes and any delay of uevents.
#![allow(clippy::unwrap_used)]

#[path = "../fake/mod.rs"]
mod fake;
mod world;

use std::sync::Arc;

use host::uevent::Uevent;
use host::{LinuxHost, Live, Root};
use model::{ErrorStage, Host};
use proptest::prelude::*;
use world::{Act, World};

fn live(world: &World) -> Live {
    Live::read(Root::open(world.fake.root()).unwrap()).unwrap()
}

/// Compares with a fresh read.
fn check(world: &World, live: &Live) {
    let fresh = LinuxHost::reader(world.fake.root()).unwrap().inventory().unwrap();
    let known = live.snapshot();
    for (address, function) in &fresh.functions {
        assert_eq!(known.function(*address), Some(function));
    }
    assert_eq!(*known, fresh);
}

fn told(live: &Live, world: &mut World, act: &Act) -> Vec<String> {
    world.act(act);
    let changes = live.apply(&world.events.split_off(0));
    check(world, live);
    changes.iter().map(|change| format!("{} {}", change.address, change.kind)).collect()
}

#[test]
fn changes_are_described_in_words() {
    let mut world = World::new();
    let live = live(&world);
    let mut told = |act| told(&live, &mut world, &act);
    assert_eq!(told(Act::Add { slot: 0, group: 1 }), ["0000:00:02.0 appeared"]);
    assert_eq!(told(Act::Bind { slot: 0, native: true }), ["0000:00:02.0 bound to native"]);
    assert_eq!(
        told(Act::Interface { slot: 0, name: 0 }),
        ["0000:00:02.0 network interface eth0 appeared"]
    );
    assert_eq!(
        told(Act::Rename { slot: 0 }),
        [
            "0000:00:02.0 network interface eth0 gone",
            "0000:00:02.0 network interface lan0 appeared"
        ]
    );
    assert_eq!(
        told(Act::Vfs { count: 2 }),
        [
            "0000:00:10.0 appeared, a virtual function of 0000:00:02.0",
            "0000:00:10.1 appeared, a virtual function of 0000:00:02.0",
            "0000:00:02.0 virtual functions 0 -> 2"
        ]
    );
    assert_eq!(
        told(Act::Vfs { count: 0 }),
        ["0000:00:10.0 gone", "0000:00:10.1 gone", "0000:00:02.0 virtual functions 2 -> 0"]
    );
    assert_eq!(
        told(Act::Bind { slot: 0, native: false }),
        [
            "0000:00:02.0 network interface lan0 gone",
            "0000:00:02.0 driver native -> vfio-pci",
            "0000:00:02.0 VFIO group /dev/vfio/1 appeared",
            "0000:00:02.0 VFIO device /dev/vfio/devices/vfio0 appeared",
        ]
    );
    let gone = told(Act::Remove { slot: 0 });
    assert_eq!(gone.last().map(String::as_str), Some("0000:00:02.0 gone"));
    assert_eq!(told(Act::Remove { slot: 0 }), [""; 0]);
}

#[test]
fn an_error_changes_nothing_and_is_reported() {
    let mut world = World::new();
    let live = live(&world);
    told(&live, &mut world, &Act::Add { slot: 0, group: 1 });
    world.error("0000:00:02.0", ErrorStage::Failed);
    world.error("0000:00:03.0", ErrorStage::Recovered);
    let changes = live.apply(&world.events.split_off(0));
    let told: Vec<String> = changes.iter().map(|c| format!("{} {}", c.address, c.kind)).collect();
    assert_eq!(told, ["0000:00:02.0 could not be recovered from a PCIe error"]);
}

#[test]
fn a_snapshot_never_changes_and_is_shared_until_something_does() {
    let mut world = World::new();
    let live = live(&world);
    told(&live, &mut world, &Act::Add { slot: 0, group: 1 });
    let one = live.snapshot();
    assert!(Arc::ptr_eq(&one, &live.snapshot()));
    told(&live, &mut world, &Act::Remove { slot: 0 });
    assert_eq!((one.functions.len(), live.snapshot().functions.len()), (1, 0));
}

#[test]
fn after_lost_uevents_everything_is_read_again() {
    let mut world = World::new();
    let live = live(&world);
    told(&live, &mut world, &Act::Add { slot: 0, group: 1 });
    world.act(&Act::Bind { slot: 0, native: false });
    world.act(&Act::Add { slot: 1, group: 2 });
    world.events.clear();
    let changes = live.rescan().unwrap();
    check(&world, &live);
    let words: Vec<_> = changes.iter().map(|change| change.kind.to_string()).collect();
    assert!(words.contains(&"bound to vfio-pci".into()), "{words:?}");
    assert!(words.contains(&"appeared".into()), "{words:?}");
    // Later uevents are applied.
    told(&live, &mut world, &Act::Remove { slot: 0 });
}

#[test]
fn a_probe_that_fails_is_noticed_without_a_word() {
    let mut world = World::new();
    let live = live(&world);
    let address = "0000:00:02.0";
    world.act(&Act::Add { slot: 0, group: 1 });
    fake::kernel::set_driver(world.fake.root(), address, Some("native"));
    let words = |events: &[Uevent]| -> Vec<String> {
        live.apply(events).iter().map(|change| change.kind.to_string()).collect()
    };
    assert_eq!(words(&world.events.split_off(0)), ["appeared", "bound to native"]);
    assert!(live.is_probing());
    assert_eq!(words(&[]), [""; 0]);
    fake::kernel::set_driver(world.fake.root(), address, None);
    assert_eq!(words(&[]), ["driver native -> none"]);
    check(&world, &live);
    assert!(!live.is_probing());
    // The last uevent is that of a successful probe.
    told(&live, &mut world, &Act::Bind { slot: 0, native: true });
    assert!(!live.is_probing());
}

#[test]
fn an_uevent_about_nothing_changes_nothing() {
    let world = World::new();
    let live = live(&world);
    for message in [
        "add@/devices/pci0000:00/0000:7f:00.0\0SUBSYSTEM=pci\0",
        "add@/devices/pci0000:00/0000:7f:00.0/net/eth9\0SUBSYSTEM=net\0",
        "remove@/devices/virtual/vfio/99\0SUBSYSTEM=vfio\0MAJOR=1\0MINOR=2\0",
        "add@/devices/../../../../etc\0SUBSYSTEM=net\0",
    ] {
        let event = Uevent::parse(message.as_bytes()).unwrap();
        assert_eq!(live.apply(&[event]), []);
    }
    check(&world, &live);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn it_is_what_a_fresh_reading_gives(history in proptest::collection::vec((world::act(), any::<bool>()), 1..40)) {
        let mut world = World::new();
        let live = live(&world);
        for (act, delivered) in &history {
            world.act(act);
            if *delivered {
                live.apply(&world.events.split_off(0));
                check(&world, &live);
            }
        }
        live.apply(&world.events.split_off(0));
        check(&world, &live);
    }
}

/// A removed function loses the link to its group before the group loses its own. A read between the two, for an
/// earlier uevent, sees a group without known members.
#[test]
fn a_group_seen_half_empty_goes_with_its_function() {
    let mut world = World::new();
    world.act(&Act::Add { slot: 0, group: 1 });
    world.act(&Act::Bind { slot: 0, native: true });
    let live = live(&world);
    world.events.clear();
    world.leave_group(0);
    live.apply(&world.events.split_off(0));
    assert!(live.snapshot().groups.contains_key(&1), "there is still something in it");
    let gone = told(&live, &mut world, &Act::Remove { slot: 0 });
    assert_eq!(gone.last().map(String::as_str), Some("0000:00:02.0 gone"));
    assert!(live.snapshot().groups.is_empty());
}
