//! Block devices of the host as disks of instances: what is refused, and that nothing on them is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{CreateInstance, DiskWish, Engine, FirstBoot, Instance, WantedContent};
use model::{BlockDevice, BlockIdentity, BlockUse, Code, DiskBus, Refusal};
use support::{Rig, wish};

const DIR: &str = sim::BLOCKS;

fn device(name: &str, minor: u32) -> BlockDevice {
    BlockDevice {
        path: format!("{DIR}/{name}").into(),
        name: format!("sd{name}"),
        number: (8, minor),
        disk: None,
        size: 1 << 40,
        sector: 512,
        ..BlockDevice::default()
    }
}

fn blank() -> BlockUse {
    BlockUse { is_blank: true, ..BlockUse::default() }
}

fn with_data() -> BlockUse {
    let data = vec!["an LVM physical volume".into(), "a GPT partition table".into()];
    BlockUse { data, ..BlockUse::default() }
}

fn block(name: &str) -> DiskWish {
    let content = WantedContent::Block { name: name.into(), allow_data: false };
    DiskWish { content, bus: None, serial: None, read_only: false, mount_path: None }
}

fn with_consent(name: &str) -> DiskWish {
    DiskWish {
        content: WantedContent::Block { name: name.into(), allow_data: true },
        ..block(name)
    }
}

fn create(engine: &Engine, name: &str, disks: Vec<DiskWish>) -> Result<Instance, Refusal> {
    engine.instances().create(CreateInstance { disks, ..wish(name, &[]) })
}

/// A host with the disk `a`, its partition `a1`, and the disk `b`.
fn rig() -> Rig {
    let rig = Rig::ready();
    rig.host.set_block(device("a", 0), blank());
    let part = BlockDevice { disk: Some((8, 0)), ..device("a1", 1) };
    rig.host.set_block(part, blank());
    rig.host.set_block(device("b", 16), blank());
    rig
}

#[test]
fn a_block_device_is_one_instances_whole_or_in_part() {
    let rig = rig();
    let engine = rig.open();
    let instance = create(&engine, "vm", vec![block("a1")]).unwrap();
    let disk = &instance.options.disks[0];
    assert_eq!((disk.serial.as_str(), disk.bus), ("a1", DiskBus::Virtio));
    assert_eq!(disk.block().unwrap().path.to_str(), Some("/dev/disk/by-id/a1"), "the name");
    for name in ["a1", "a", "/dev/disk/by-id/a"] {
        let refusal = create(&engine, "second", vec![block(name)]).unwrap_err();
        assert_eq!(refusal.code, Code::InUse, "{name}");
        assert!(refusal.message.contains("\"vm\" has /dev/disk/by-id/a1"), "{refusal:?}");
    }
    create(&engine, "second", vec![block("b")]).unwrap();
    let twice = create(&engine, "third", vec![block("a"), block("a1")]).unwrap_err();
    assert_eq!(twice.code, Code::InvalidRequest, "{twice:?}");
    engine.instances().delete("vm").unwrap();
    create(&engine, "third", vec![block("a")]).unwrap();
    assert!(engine.volumes().by_id().unwrap().is_empty(), "nothing is made");
}

#[test]
fn what_the_host_uses_or_has_data_on_is_refused() {
    let rig = rig();
    let engine = rig.open();
    let users = vec!["sda1 is mounted at /srv".into()];
    rig.host.set_block(device("a", 0), BlockUse { users, ..BlockUse::default() });
    for wish in [block("a"), with_consent("a")] {
        let refusal = create(&engine, "vm", vec![wish]).unwrap_err();
        assert_eq!(refusal.code, Code::InUse);
        assert!(refusal.message.contains("sda1 is mounted at /srv"), "{refusal:?}");
    }
    rig.host.set_block(device("b", 16), with_data());
    let refusal = create(&engine, "vm", vec![block("b")]).unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.message.ends_with("an LVM physical volume, a GPT partition table"));
    assert!(refusal.remedy.contains("allow-data"), "{refusal:?}");
    create(&engine, "vm", vec![with_consent("b")]).unwrap();
}

#[test]
fn what_is_no_disk_is_refused() {
    let rig = rig();
    let engine = rig.open();
    let code = |wish: DiskWish| create(&engine, "vm", vec![wish]).unwrap_err().code;
    assert_eq!(code(block("none")), Code::DeviceNotFound);
    assert_eq!(code(block("../a")), Code::InvalidRequest);
    rig.host.set_block(BlockDevice { is_read_only: true, ..device("ro", 32) }, blank());
    assert_eq!(code(block("ro")), Code::InvalidRequest);
    create(&engine, "reader", vec![DiskWish { read_only: true, ..block("ro") }]).unwrap();
    rig.host.set_block(BlockDevice { sector: 4096, ..device("4kn", 48) }, blank());
    assert_eq!(code(DiskWish { bus: Some(DiskBus::Sata), ..block("4kn") }), Code::InvalidRequest);
    create(&engine, "vm", vec![block("4kn")]).unwrap();
}

#[test]
fn a_start_checks_again_what_is_there_and_not_what_the_guest_wrote() {
    let rig = rig();
    let engine = rig.open();
    create(&engine, "vm", vec![block("a")]).unwrap();
    engine.instances().stop("vm").unwrap();
    rig.host.set_block(device("a", 0), with_data());
    engine.instances().start("vm").unwrap();
    engine.instances().stop("vm").unwrap();
    rig.host.remove_block(format!("{DIR}/a").as_ref());
    let missing = engine.instances().start("vm").unwrap_err();
    assert_eq!(missing.code, Code::DeviceNotFound, "{missing:?}");
    assert!(missing.message.contains("/dev/disk/by-id/a"), "{missing:?}");
    // It has another number after the next boot.
    rig.host.set_block(device("a", 64), blank());
    engine.instances().start("vm").unwrap();
    engine.instances().stop("vm").unwrap();
    let users = vec!["sda is swap space".into()];
    rig.host.set_block(device("a", 64), BlockUse { users, ..BlockUse::default() });
    assert_eq!(engine.instances().start("vm").unwrap_err().code, Code::InUse);
}

#[test]
fn a_stopped_instance_gets_and_loses_a_block_device() {
    let rig = rig();
    let engine = rig.open();
    create(&engine, "other", vec![block("b")]).unwrap();
    create(&engine, "vm", vec![]).unwrap();
    let scsi = DiskWish { bus: Some(DiskBus::Scsi), ..block("a") };
    let running = engine.instances().attach("vm", &scsi).unwrap_err();
    assert_eq!(running.code, Code::InvalidState);
    engine.instances().stop("vm").unwrap();
    assert_eq!(engine.instances().attach("vm", &block("b")).unwrap_err().code, Code::InUse);
    for key in ["a", "/dev/disk/by-id/a", "disk1"] {
        let serial = Some(key.to_owned()).filter(|key| key == "disk1");
        engine.instances().attach("vm", &DiskWish { serial, ..block("a") }).unwrap();
        let detached = engine.instances().detach("vm", key).unwrap();
        assert!(detached.options.disks.is_empty(), "{key}");
    }
    engine.instances().attach("vm", &block("a")).unwrap();
    assert_eq!(engine.instances().eject("vm", "a").unwrap_err().code, Code::NotFound);
    engine.instances().detach_block("vm", "a", std::time::Duration::ZERO).unwrap();
}

#[test]
fn only_a_blank_device_is_formatted_by_the_guest() {
    let rig = rig();
    rig.host.set_block(device("b", 16), with_data());
    rig.host.set_block(device("odd", 32), BlockUse::default());
    let engine = rig.open();
    let mounted = |wish: DiskWish, at: &str| DiskWish { mount_path: Some(at.into()), ..wish };
    let disks = vec![
        mounted(block("a"), "/a"),
        mounted(with_consent("b"), "/b"),
        mounted(block("odd"), "/odd"),
    ];
    let first_boot = FirstBoot { hostname: Some("vm".into()), ..FirstBoot::default() };
    let request = CreateInstance { disks, first_boot, ..wish("vm", &[]) };
    let seed = engine.instances().create(request).unwrap().options.seed.unwrap();
    let count = |what: &str| seed.vendor_data.matches(what).count();
    assert_eq!(count("\"filesystem\": \"ext4\""), 1, "{}", seed.vendor_data);
    assert_eq!([count("virtio-a\""), count("virtio-b\""), count("virtio-odd\"")], [2, 1, 1]);
    let twice = vec![mounted(block("a"), "/x"), mounted(block("odd"), "/x/")];
    engine.instances().delete("vm").unwrap();
    assert_eq!(create(&engine, "vm", twice).unwrap_err().code, Code::InvalidRequest);
}

/// The disk of the drive that is registered as `nvme`.
fn drive() -> BlockDevice {
    let identity = BlockIdentity { name: Some("eui.1".into()), partition: None, size: 1 << 40 };
    let functions = vec![support::at(support::NVME)];
    BlockDevice { functions, identity, ..device("nvme-1", 80) }
}

#[test]
fn a_drive_is_a_device_of_one_instance_or_a_disk_of_another() {
    let rig = rig();
    rig.host.set_block(drive(), blank());
    let engine = rig.open();
    create(&engine, "disk", vec![block("nvme-1")]).unwrap();
    let as_device = |name: &str| engine.instances().create(wish(name, &["nvme"])).unwrap_err();
    for state in ["running", "stopped"] {
        let refusal = as_device("device");
        assert_eq!(refusal.code, Code::InUse, "{state}");
        assert!(refusal.message.contains("\"disk\" has /dev/disk/by-id/nvme-1"), "{refusal:?}");
        let refusal = support::refused(&engine, "7", &[support::NVME]);
        assert!(refusal.message.contains("\"disk\" has"), "{refusal:?}");
        let _ = engine.instances().stop("disk");
    }
    // Nor is it a device of the same instance.
    let change = engine::ChangeInstance {
        machine: engine::ChangeMachine {
            devices: Some(vec![engine::DeviceWish::Registered("nvme".into())]),
            ..Default::default()
        },
        ..Default::default()
    };
    assert_eq!(engine.instances().change("disk", change).unwrap_err().code, Code::InUse);
    engine.instances().detach("disk", "nvme-1").unwrap();
    let both = CreateInstance { disks: vec![block("nvme-1")], ..wish("both", &["nvme"]) };
    assert_eq!(engine.instances().create(both).unwrap_err().code, Code::InvalidRequest);
    engine.instances().create(wish("device", &["nvme"])).unwrap();
    engine.instances().stop("device").unwrap();
    for refusal in [
        create(&engine, "vm", vec![block("nvme-1")]).unwrap_err(),
        engine.instances().attach("disk", &block("nvme-1")).unwrap_err(),
    ] {
        assert_eq!(refusal.code, Code::InUse, "{refusal:?}");
        assert!(refusal.message.contains("attached to the instance \"device\""), "{refusal:?}");
    }
    engine.instances().delete("device").unwrap();
    engine.instances().attach("disk", &block("nvme-1")).unwrap();
}

#[test]
fn another_device_under_the_same_name_is_noticed_at_the_start() {
    let rig = rig();
    rig.host.set_block(drive(), blank());
    let engine = rig.open();
    create(&engine, "vm", vec![block("nvme-1")]).unwrap();
    engine.instances().stop("vm").unwrap();
    let grown = BlockIdentity { size: 2 << 40, ..drive().identity };
    rig.host.set_block(BlockDevice { identity: grown, ..drive() }, blank());
    engine.instances().start("vm").unwrap();
    engine.instances().stop("vm").unwrap();
    let other = BlockIdentity { name: Some("eui.2".into()), ..drive().identity };
    rig.host.set_block(BlockDevice { identity: other, ..drive() }, blank());
    let refusal = engine.instances().start("vm").unwrap_err();
    assert_eq!(refusal.code, Code::FingerprintChanged);
    assert!(refusal.message.contains("that was eui.1 (1 TB), and this is eui.2"), "{refusal:?}");
    assert!(refusal.remedy.contains("handover instance detach vm /dev/disk/by-id/nvme-1"));
    engine.instances().detach("vm", "nvme-1").unwrap();
    engine.instances().attach("vm", &block("nvme-1")).unwrap();
    engine.instances().start("vm").unwrap();
}

#[test]
fn loop_devices_of_one_file_are_one_disk() {
    let rig = rig();
    for (name, minor) in [("one", 0), ("two", 1)] {
        let number = (7, minor);
        let backing = Some((1, 2));
        rig.host.set_block(BlockDevice { number, backing, ..device(name, 0) }, blank());
    }
    let engine = rig.open();
    let twice = create(&engine, "vm", vec![block("one"), block("two")]).unwrap_err();
    assert_eq!(twice.code, Code::InvalidRequest);
    create(&engine, "vm", vec![block("one")]).unwrap();
    let refusal = create(&engine, "second", vec![block("two")]).unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.message.contains("\"vm\" has /dev/disk/by-id/one"), "{refusal:?}");
}
