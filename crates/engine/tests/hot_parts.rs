//! Disks and network cards that come to running machines and leave them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::{
    CardWish, CreateVolume, DeviceWish, DiskWish, Engine, Instance, NetworkWish, NewVolume,
    OperationState, WantedContent,
};
use model::{
    BlockDevice, BlockUse, CardLink, Code, DiskBus, DiskFormat, PartKind, PartPlace, Refusal,
};
use support::{Rig, wish};
use uuid::Uuid;

const SOON: Duration = Duration::from_millis(10);

fn disk(content: WantedContent) -> DiskWish {
    DiskWish { content, bus: None, serial: None, read_only: false, mount_path: None }
}

fn volume(name: &str) -> DiskWish {
    disk(WantedContent::Volume(name.into()))
}

fn block(name: &str) -> DiskWish {
    disk(WantedContent::Block { name: name.into(), allow_data: false })
}

fn bridge() -> CardWish {
    let link = CardLink::Bridge { bridge: "br0".into() };
    CardWish { link, ..CardWish::default() }
}

fn make_volume(engine: &Engine, name: &str) {
    let file = NewVolume { size: 1 << 20, format: DiskFormat::Raw, allocate: false };
    let request = CreateVolume { name: name.into(), id: None, file, tags: BTreeMap::new() };
    engine.volumes().create(request).unwrap();
}

/// A host with the volumes `data` and `more`, the disk `a`, and the running machine `vm` with a NIC in its first port.
fn with_machine() -> (Rig, Engine, Uuid) {
    let rig = Rig::ready();
    rig.host.set_block(
        BlockDevice {
            path: format!("{}/a", sim::BLOCKS).into(),
            name: "sda".into(),
            number: (8, 0),
            size: 1 << 40,
            sector: 512,
            ..BlockDevice::default()
        },
        BlockUse { is_blank: true, ..BlockUse::default() },
    );
    let (engine, _) = rig.open_recovered();
    make_volume(&engine, "data");
    make_volume(&engine, "more");
    let network = NetworkWish::OFF;
    let request = engine::CreateInstance { network, ..wish("vm", &["nic"]) };
    let id = engine.instances().create(request).unwrap().id;
    (rig, engine, id)
}

fn at(port: u32, kind: PartKind) -> PartPlace {
    PartPlace { port, kind }
}

fn attach(engine: &Engine, wish: &DiskWish) -> Result<Instance, Refusal> {
    engine.instances().attach("vm", wish)
}

fn detach(engine: &Engine, disk: &str) -> Result<Instance, Refusal> {
    engine.instances().detach_within("vm", disk, SOON)
}

/// The machine has exactly the parts that are recorded, and no other file or interface open.
fn assert_consistent(rig: &Rig, engine: &Engine, why: &str) {
    let vm = engine.instances().find("vm").unwrap();
    assert!(vm.options.moving.is_still(), "{why}: {:?}", vm.options.moving);
    let recorded: BTreeSet<u32> = vm.options.part_ports().collect();
    if rig.launcher.running().contains(&vm.id) {
        let (parts, open) = rig.launcher.parts(vm.id);
        let there: BTreeSet<u32> = parts.iter().map(|part| part.port).collect();
        assert_eq!((&there, &open), (&recorded, &recorded), "{why}");
    }
    let ended = engine.journal(5).unwrap().iter().all(|op| op.state != OperationState::Open);
    assert!(ended, "{why}");
}

#[test]
fn a_running_machine_gets_disks_and_loses_them() {
    let (rig, engine, id) = with_machine();
    let attached = attach(&engine, &volume("data")).unwrap();
    assert_eq!(attached.options.disks[0].port, Some(1));
    attach(&engine, &DiskWish { bus: Some(DiskBus::Nvme), ..block("a") }).unwrap();
    let (parts, open) = rig.launcher.parts(id);
    assert_eq!(parts, [at(1, PartKind::Disk), at(2, PartKind::Disk)]);
    assert_eq!(open, [1, 2].into());
    let twice = attach(&engine, &volume("data")).unwrap_err();
    assert_eq!(twice.code, Code::InvalidRequest, "{twice}");
    let device = DeviceWish::Registered("gpu".into());
    engine.instances().attach_device("vm", &device).unwrap();
    assert_eq!(rig.launcher.ports(id).keys().copied().collect::<Vec<_>>(), [0, 3]);
    detach(&engine, "data").unwrap();
    engine.instances().detach_block("vm", "a", SOON).unwrap();
    assert_eq!(rig.launcher.parts(id), (vec![], BTreeSet::new()));
    assert_consistent(&rig, &engine, "at the end");
    assert_eq!(engine.volumes().find("data").unwrap().1.len(), 0, "it is free for others");
    assert_eq!(detach(&engine, "data").unwrap_err().code, Code::NotFound);
}

#[test]
fn what_no_running_machine_can_have_is_refused_with_the_reason() {
    let (rig, engine, id) = with_machine();
    for bus in [DiskBus::Sata, DiskBus::Scsi] {
        let refused = attach(&engine, &DiskWish { bus: Some(bus), ..volume("data") }).unwrap_err();
        assert_eq!(refused.code, Code::InvalidState, "{refused}");
        assert!(refused.message.contains(bus.as_str()), "{refused}");
    }
    let user = engine.instances().attach_card("vm", CardWish::default()).unwrap_err();
    assert!(user.code == Code::InvalidState && user.message.contains("passt"), "{user}");
    for name in ["gpu", "nvme", "amd"] {
        engine.instances().attach_device("vm", &DeviceWish::Registered(name.into())).unwrap();
    }
    attach(&engine, &volume("data")).unwrap();
    let full = attach(&engine, &volume("more")).unwrap_err();
    assert_eq!(full.code, Code::InsufficientResources, "{full}");
    assert_eq!(rig.launcher.parts(id).0, [at(4, PartKind::Disk)]);
    assert_consistent(&rig, &engine, "at the end");
}

#[test]
fn a_disk_of_the_start_stays_until_the_stop() {
    let (rig, engine, _) = with_machine();
    engine.instances().stop("vm").unwrap();
    attach(&engine, &volume("data")).unwrap();
    engine.instances().start("vm").unwrap();
    let refused = detach(&engine, "data").unwrap_err();
    assert_eq!(refused.code, Code::InvalidState);
    assert!(refused.remedy.contains("only disks that it got while it ran"), "{refused:?}");
    engine.instances().stop("vm").unwrap();
    detach(&engine, "data").unwrap();
    assert_consistent(&rig, &engine, "at the end");
}

#[test]
fn a_plugged_disk_keeps_its_port_over_a_stop_and_can_leave_then() {
    let (rig, engine, id) = with_machine();
    attach(&engine, &volume("data")).unwrap();
    attach(&engine, &volume("more")).unwrap();
    detach(&engine, "data").unwrap();
    engine.instances().stop("vm").unwrap();
    let gpu = DeviceWish::Registered("gpu".into());
    engine.instances().attach_device("vm", &gpu).unwrap();
    let nvme = DeviceWish::Registered("nvme".into());
    engine.instances().attach_device("vm", &nvme).unwrap();
    engine.instances().start("vm").unwrap();
    assert_eq!(rig.launcher.parts(id).0, [at(2, PartKind::Disk)]);
    assert_eq!(rig.launcher.ports(id).keys().copied().collect::<Vec<_>>(), [0, 1, 3]);
    let spec = rig.launcher.launched(id).unwrap();
    assert_eq!(spec.spare.count, 5, "four spare ones, and that of the disk");
    detach(&engine, "more").unwrap();
    assert_consistent(&rig, &engine, "at the end");
}

#[test]
fn a_card_comes_and_leaves() {
    let (rig, engine, id) = with_machine();
    let attached = engine.instances().attach_card("vm", bridge()).unwrap();
    let card = attached.options.cards[0].clone();
    assert_eq!(card.port, Some(1));
    assert!(card.host_interface(id, 0).ends_with("-p1"));
    let taken = CardWish { mac: Some(card.mac), ..bridge() };
    let refused = engine.instances().attach_card("vm", taken).unwrap_err();
    assert_eq!(refused.code, Code::Conflict, "{refused}");
    // One that a stopped instance gets is before it.
    engine.instances().stop("vm").unwrap();
    let both = engine.instances().attach_card("vm", CardWish::default()).unwrap();
    assert_eq!(both.options.cards[1], card);
    engine.instances().start("vm").unwrap();
    let fixed = both.options.cards[0].mac;
    let refused = engine.instances().detach_card("vm", fixed, SOON).unwrap_err();
    assert_eq!(refused.code, Code::InvalidState, "{refused}");
    engine.instances().detach_card("vm", card.mac, SOON).unwrap();
    assert_eq!(rig.launcher.parts(id), (vec![], BTreeSet::new()));
    let gone = engine.instances().detach_card("vm", card.mac, SOON).unwrap_err();
    assert_eq!(gone.code, Code::NotFound);
    engine.instances().stop("vm").unwrap();
    engine.instances().detach_card("vm", fixed, SOON).unwrap();
    assert!(engine.instances().find("vm").unwrap().options.cards.is_empty());
}

#[test]
fn what_a_machine_does_not_take_leaves_nothing() {
    for taken in 0..2 {
        let (rig, engine, _) = with_machine();
        rig.launcher.refuse_next_plug("no", taken);
        let refused = attach(&engine, &volume("data")).unwrap_err();
        assert_eq!(refused.code, Code::StepFailed, "{refused}");
        assert_consistent(&rig, &engine, "after the refusal");
        assert!(engine.instances().find("vm").unwrap().options.disks.is_empty());
        attach(&engine, &volume("data")).unwrap();
    }
}

#[test]
fn a_guest_that_does_not_let_go_keeps_the_disk_until_it_does() {
    let (rig, engine, id) = with_machine();
    attach(&engine, &volume("data")).unwrap();
    attach(&engine, &volume("more")).unwrap();
    rig.launcher.set_stubborn(id, true);
    for _ in 0..2 {
        let refused = detach(&engine, "data").unwrap_err();
        assert_eq!(refused.code, Code::GuestKeepsDevice, "{refused}");
    }
    let kept = engine.instances().find("vm").unwrap();
    assert_eq!(kept.options.disks.len(), 2, "it is still the machine's");
    assert!(engine.instances().unsettled(&kept).unwrap().contains("let go of the disk data"));
    // It lets go late.
    rig.launcher.set_stubborn(id, false);
    engine.check_claims().unwrap();
    assert_consistent(&rig, &engine, "it let go");
    assert_eq!(engine.instances().find("vm").unwrap().options.disks.len(), 1);
    // Or not before its machine ends.
    rig.launcher.set_stubborn(id, true);
    detach(&engine, "more").unwrap_err();
    engine.instances().stop("vm").unwrap();
    assert!(engine.instances().find("vm").unwrap().options.disks.is_empty());
    assert_consistent(&rig, &engine, "it ended");
}

#[test]
fn a_disk_that_the_guest_ejects_is_closed_and_comes_back_with_the_next_start() {
    let (rig, engine, id) = with_machine();
    attach(&engine, &volume("data")).unwrap();
    rig.launcher.eject_part(id, at(1, PartKind::Disk));
    engine.check_claims().unwrap();
    assert_eq!(rig.launcher.parts(id), (vec![], BTreeSet::new()), "its file is closed");
    let vm = engine.instances().find("vm").unwrap();
    assert!(engine.instances().unsettled(&vm).unwrap().contains("ejected the disk data"));
    engine.instances().stop("vm").unwrap();
    engine.instances().start("vm").unwrap();
    assert_eq!(rig.launcher.parts(id).0, [at(1, PartKind::Disk)]);
    // Or it is detached.
    rig.launcher.eject_part(id, at(1, PartKind::Disk));
    engine.check_claims().unwrap();
    detach(&engine, "data").unwrap();
    assert_consistent(&rig, &engine, "at the end");
}

#[test]
fn a_paused_guest_is_not_asked_for_a_disk() {
    let (rig, engine, _) = with_machine();
    engine.instances().pause("vm").unwrap();
    attach(&engine, &volume("data")).unwrap();
    assert_eq!(detach(&engine, "data").unwrap_err().code, Code::InvalidState);
    engine.instances().resume("vm").unwrap();
    detach(&engine, "data").unwrap();
    assert_consistent(&rig, &engine, "at the end");
}

/// A machine that gets disks and a card, and loses some.
fn life(engine: &Engine) {
    attach(engine, &volume("data")).unwrap();
    let attached = engine.instances().attach_card("vm", bridge()).unwrap();
    detach(engine, "data").unwrap();
    attach(engine, &block("a")).unwrap();
    engine.instances().detach_card("vm", attached.options.cards[0].mac, SOON).unwrap();
}

#[test]
fn killed_at_any_boundary_each_part_is_in_the_guest_or_gone() {
    for end in ["none", "vmm", "host"] {
        let mut boundary = 0;
        loop {
            let (rig, engine, id) = with_machine();
            drop(engine);
            let survived = rig.killed_at(boundary, life);
            match end {
                "vmm" => rig.launcher.exit(id, 1),
                "host" => {
                    rig.host.reboot();
                    rig.launcher.reboot();
                }
                _ => {}
            }
            let why = format!("killed at boundary {boundary}, end: {end}");
            let (engine, report) = rig.open_recovered();
            assert!(report.notes.is_empty(), "{why}: {:?}", report.notes);
            assert_consistent(&rig, &engine, &why);
            engine.instances().delete("vm").unwrap();
            rig.assert_untouched(&why);
            engine.volumes().delete("data").unwrap();
            if survived {
                break;
            }
            boundary += 1;
        }
        assert!(boundary > 15, "only {boundary} boundaries");
    }
}

#[test]
fn killed_while_a_guest_does_not_let_go_of_a_disk_nothing_is_lost() {
    for boundary in 0.. {
        let (rig, engine, id) = with_machine();
        attach(&engine, &volume("data")).unwrap();
        drop(engine);
        rig.launcher.set_stubborn(id, true);
        let survived = rig.killed_at(boundary, |engine| drop(detach(engine, "data")));
        let (engine, _) = rig.open_recovered();
        let why = format!("killed at boundary {boundary}");
        assert_eq!(rig.launcher.parts(id).1, [1].into(), "{why}");
        rig.launcher.set_stubborn(id, false);
        engine.check_claims().unwrap();
        assert_consistent(&rig, &engine, &why);
        if survived {
            assert!(boundary > 2);
            return;
        }
    }
}

#[test]
fn killed_again_during_recovery_of_a_part_the_next_one_completes() {
    for first in 1.. {
        for second in 0.. {
            let (rig, engine, _) = with_machine();
            drop(engine);
            if rig.killed_at(first, life) {
                return;
            }
            let lived = rig.killed_at(second, |engine| drop(engine.recover().unwrap()));
            let (engine, _) = rig.open_recovered();
            assert_consistent(&rig, &engine, &format!("{first}, then {second} of recovery"));
            if lived {
                break;
            }
        }
    }
}
