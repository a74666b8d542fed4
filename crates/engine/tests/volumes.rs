//! Volumes and the disks of instances: whose they are, what is refused, and what stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use engine::{
    CreateInstance, CreateVolume, DiskWish, Engine, FirstBoot, Instance, NewVolume, Volume,
    WantedContent,
};
use model::{Code, DiskBus, DiskFormat, Refusal};
use support::{Rig, wish};
use uuid::Uuid;

const GIB: u64 = 1 << 30;

fn raw(size: u64) -> NewVolume {
    NewVolume { size, format: DiskFormat::Raw, allocate: false }
}

fn volume(engine: &Engine, name: &str) -> Result<Volume, Refusal> {
    let request =
        CreateVolume { name: name.into(), id: None, file: raw(GIB), tags: BTreeMap::new() };
    engine.volumes().create(request)
}

fn disk(content: WantedContent) -> DiskWish {
    DiskWish { content, bus: None, serial: None, read_only: false, mount_path: None }
}

fn existing(name: &str) -> DiskWish {
    disk(WantedContent::Volume(name.into()))
}

fn new(size: u64) -> DiskWish {
    disk(WantedContent::New(raw(size)))
}

fn cdrom(image: &str) -> DiskWish {
    disk(WantedContent::Cdrom(image.into()))
}

fn with(name: &str, disks: Vec<DiskWish>) -> CreateInstance {
    CreateInstance { disks, ..wish(name, &[]) }
}

fn create(engine: &Engine, name: &str, disks: Vec<DiskWish>) -> Result<Instance, Refusal> {
    engine.instances().create(with(name, disks))
}

fn serials(instance: &Instance) -> Vec<&str> {
    instance.options.disks.iter().map(|disk| disk.serial.as_str()).collect()
}

/// The names of the volumes, and that each has its file and no other file exists.
fn names(rig: &Rig, engine: &Engine) -> Vec<String> {
    let all = engine.volumes().by_id().unwrap();
    let dir = rig.config().state_dir.join("volumes");
    let files: BTreeSet<Uuid> = match std::fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect(),
        Err(_) => BTreeSet::new(),
    };
    assert_eq!(files, all.keys().copied().collect(), "files and volumes");
    let mut names: Vec<String> = all.into_values().map(|volume| volume.name).collect();
    names.sort();
    names
}

#[test]
fn a_disk_that_is_made_with_an_instance_goes_with_it_and_a_volume_stays() {
    let rig = Rig::ready();
    let engine = rig.open();
    volume(&engine, "data").unwrap();
    let instance = create(&engine, "vm", vec![new(GIB), existing("data"), new(2 * GIB)]).unwrap();
    assert_eq!(serials(&instance), ["disk1", "data", "disk2"]);
    assert_eq!(names(&rig, &engine), ["data", "vm/disk1", "vm/disk2"]);
    let (data, users) = engine.volumes().find("data").unwrap();
    assert_eq!((data.size, data.made_with), (GIB, None));
    assert_eq!(users[0].name, "vm");
    assert_eq!(engine.volumes().delete("data").unwrap_err().code, Code::InUse);
    assert_eq!(engine.volumes().delete("vm/disk1").unwrap_err().code, Code::InUse);
    engine.instances().delete("vm").unwrap();
    assert_eq!(names(&rig, &engine), ["data"]);
    engine.volumes().delete("data").unwrap();
    assert!(names(&rig, &engine).is_empty());
    assert_eq!(engine.volumes().delete("data").unwrap_err().code, Code::NotFound);
}

#[test]
fn one_instance_can_write_to_a_volume_or_several_can_read_it() {
    let rig = Rig::ready();
    let engine = rig.open();
    volume(&engine, "data").unwrap();
    let read_only = || DiskWish { read_only: true, ..existing("data") };
    create(&engine, "writer", vec![existing("data")]).unwrap();
    for wish in [existing("data"), read_only()] {
        let refusal = create(&engine, "second", vec![wish]).unwrap_err();
        assert_eq!(refusal.code, Code::InUse);
        assert!(refusal.message.contains("writer"), "{refusal:?}");
        assert!(refusal.remedy.contains("instance detach writer data"), "{refusal:?}");
    }
    engine.instances().stop("writer").unwrap();
    assert!(create(&engine, "second", vec![existing("data")]).is_err(), "a stopped one has it too");
    engine.instances().detach("writer", "data").unwrap();
    create(&engine, "one", vec![read_only()]).unwrap();
    create(&engine, "two", vec![read_only()]).unwrap();
    assert_eq!(create(&engine, "three", vec![existing("data")]).unwrap_err().code, Code::InUse);
    let twice = create(&engine, "four", vec![read_only(), read_only()]).unwrap_err();
    assert_eq!(twice.code, Code::InvalidRequest);
    assert_eq!(names(&rig, &engine), ["data"]);
}

#[test]
fn a_detached_disk_stays_when_its_instance_is_deleted() {
    let rig = Rig::ready();
    let engine = rig.open();
    create(&engine, "vm", vec![new(GIB)]).unwrap();
    let running = engine.instances().detach("vm", "disk1").unwrap_err();
    assert_eq!(running.code, Code::InvalidState);
    engine.instances().stop("vm").unwrap();
    let instance = engine.instances().detach("vm", "disk1").unwrap();
    assert!(instance.options.disks.is_empty());
    assert_eq!(engine.instances().detach("vm", "disk1").unwrap_err().code, Code::NotFound);
    engine.instances().delete("vm").unwrap();
    assert_eq!(names(&rig, &engine), ["vm/disk1"]);
    // Another instance of that name does not take it over.
    create(&engine, "vm", vec![new(GIB)]).unwrap();
    assert_eq!(names(&rig, &engine), ["vm/disk1", "vm/disk1-2"]);
    engine.instances().delete("vm").unwrap();
    create(&engine, "vm", vec![existing("vm/disk1")]).unwrap();
    engine.instances().delete("vm").unwrap();
    assert_eq!(names(&rig, &engine), ["vm/disk1"]);
}

#[test]
fn a_volume_goes_by_its_name_before_anothers_serial_number() {
    let rig = Rig::ready();
    let engine = rig.open();
    let keep = volume(&engine, "keep").unwrap();
    volume(&engine, "other").unwrap();
    let confusing = DiskWish { serial: Some("other".into()), ..existing("keep") };
    let plain = DiskWish { serial: Some("zz".into()), ..existing("other") };
    create(&engine, "vm", vec![confusing, plain]).unwrap();
    engine.instances().stop("vm").unwrap();
    let left = engine.instances().detach("vm", "other").unwrap();
    assert_eq!(left.options.disks[0].volume(), Some(keep.id));
}

#[test]
fn a_damaged_volume_is_named_before_anything_is_prepared() {
    let rig = Rig::ready();
    let engine = rig.open();
    let data = volume(&engine, "data").unwrap();
    create(&engine, "vm", vec![existing("data")]).unwrap();
    engine.instances().stop("vm").unwrap();
    let file = rig.config().state_dir.join("volumes").join(data.id.to_string()).join("disk");
    std::fs::write(&file, b"short").unwrap();
    let refusal = engine.instances().start("vm").unwrap_err();
    assert!(refusal.message.contains("the volume \"data\" cannot be used"), "{refusal:?}");
    assert!(refusal.message.contains("has 5 instead of 1073741824 bytes"), "{refusal:?}");
    engine.instances().detach("vm", "data").unwrap();
    engine.instances().start("vm").unwrap();
}

#[test]
fn a_volume_is_attached_to_a_stopped_instance() {
    let rig = Rig::ready();
    let engine = rig.open();
    volume(&engine, "data").unwrap();
    create(&engine, "vm", vec![]).unwrap();
    let wish = DiskWish { bus: Some(DiskBus::Scsi), ..existing("data") };
    assert_eq!(engine.instances().attach("vm", &wish).unwrap_err().code, Code::InvalidState);
    engine.instances().stop("vm").unwrap();
    let instance = engine.instances().attach("vm", &wish).unwrap();
    assert_eq!(instance.options.disks[0].bus, DiskBus::Scsi);
    assert!(engine.instances().attach("vm", &wish).is_err(), "it has it already");
    engine.instances().start("vm").unwrap();
    let shown = rig.open_again(engine).instances().find("vm").unwrap();
    assert_eq!(serials(&shown), ["data"], "it is stored");
}

#[test]
fn a_machine_without_an_image_boots_a_cdrom() {
    let rig = Rig::ready();
    let engine = rig.open();
    rig.import(&engine, "installer");
    let request = CreateInstance { image: None, ..with("new", vec![cdrom("installer"), new(GIB)]) };
    let instance = engine.instances().create(request).unwrap();
    assert!(instance.options.is_without_root);
    assert_eq!(instance.image, "installer");
    assert_eq!(serials(&instance), ["cd1", "disk1"]);
    let refusal = engine.images().delete("installer").unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    engine.instances().stop("new").unwrap();
    assert_eq!(engine.instances().eject("new", "disk1").unwrap_err().code, Code::NotFound);
    engine.instances().eject("new", "installer").unwrap();
    engine.instances().start("new").unwrap();
    for request in [
        CreateInstance { image: None, ..with("none", vec![new(GIB)]) },
        CreateInstance {
            image: None,
            overlay_size: Some(GIB),
            ..with("none", vec![cdrom("installer")])
        },
        with("none", vec![cdrom("missing")]),
    ] {
        assert!(engine.instances().create(request).is_err());
    }
    assert_eq!(names(&rig, &engine), ["new/disk1"], "nothing is left of what was refused");
}

#[test]
fn what_no_disk_can_be_is_refused_and_leaves_nothing() {
    let rig = Rig::ready();
    let engine = rig.open();
    volume(&engine, "data").unwrap();
    let plain = || new(GIB);
    let qcow2 = NewVolume { size: GIB, format: DiskFormat::Qcow2, allocate: true };
    let cases: Vec<(Vec<DiskWish>, Code)> = vec![
        (vec![existing("none")], Code::NotFound),
        (vec![new(1)], Code::InvalidSize),
        (vec![new(u64::MAX)], Code::InvalidSize),
        (vec![disk(WantedContent::New(qcow2))], Code::InvalidRequest),
        (vec![DiskWish { serial: Some("a b".into()), ..plain() }], Code::InvalidRequest),
        (
            vec![DiskWish { serial: Some("data".into()), ..plain() }, existing("data")],
            Code::InvalidRequest,
        ),
        (vec![DiskWish { mount_path: Some("data".into()), ..plain() }], Code::InvalidRequest),
        (
            vec![DiskWish { read_only: true, bus: Some(DiskBus::Sata), ..existing("data") }],
            Code::InvalidRequest,
        ),
        (vec![DiskWish { bus: Some(DiskBus::Nvme), ..cdrom("debian") }], Code::InvalidRequest),
        (vec![plain(); 33], Code::InvalidRequest),
        (vec![DiskWish { serial: Some("seed".into()), ..plain() }], Code::InvalidRequest),
    ];
    for (number, (disks, code)) in cases.into_iter().enumerate() {
        let refusal = create(&engine, "vm", disks).unwrap_err();
        assert_eq!(refusal.code, code, "case {number}: {refusal:?}");
    }
    // Refused after the files were made: the device is unknown only when it is chosen, the memory when it is checked.
    assert!(
        engine
            .instances()
            .create(CreateInstance { memory: Some(u64::MAX), ..with("vm", vec![plain()]) })
            .is_err()
    );
    for bad in ["", "a b", "a/b", "-a", "09dbca8e-1111-4222-8333-444455556666"] {
        assert_eq!(volume(&engine, bad).unwrap_err().code, Code::InvalidName, "{bad:?}");
    }
    assert_eq!(volume(&engine, "data").unwrap_err().code, Code::AlreadyExists);
    assert_eq!(names(&rig, &engine), ["data"]);
}

/// A restored backup does not know the volumes of later days.
#[test]
fn data_of_a_volume_that_is_not_recorded_stays_and_is_told() {
    let rig = Rig::ready();
    let engine = rig.open();
    volume(&engine, "data").unwrap();
    drop(engine);
    let dir = rig.config().state_dir.join("volumes");
    let [orphan, half] = [Uuid::new_v4().to_string(), format!("pending-{}", Uuid::new_v4())]
        .map(|name| dir.join(name));
    for path in [&orphan, &half] {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("disk"), b"data").unwrap();
    }
    let (engine, report) = rig.open_recovered();
    let told = format!("{} has the data of a volume that is not recorded", orphan.display());
    assert!(report.notes.iter().any(|note| note.starts_with(&told)), "{report:?}");
    assert!(orphan.join("disk").exists() && !half.exists());
    std::fs::remove_dir_all(&orphan).unwrap();
    assert_eq!(names(&rig, &engine), ["data"]);
}

#[test]
fn a_guest_mounts_disks_and_formats_only_empty_ones() {
    let rig = Rig::ready();
    let engine = rig.open();
    let used = volume(&engine, "used").unwrap();
    volume(&engine, "empty").unwrap();
    let file = rig.config().state_dir.join("volumes").join(used.id.to_string()).join("disk");
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    std::io::Write::write_all(&mut &file, b"data of a user").unwrap();
    let at = |wish: DiskWish, path: &str| DiskWish { mount_path: Some(path.into()), ..wish };
    let disks = vec![
        at(existing("used"), "/used"),
        at(existing("empty"), "/empty"),
        at(new(GIB), "/new"),
        new(GIB),
    ];
    let instance = create(&engine, "vm", disks).unwrap();
    let seed = instance.options.seed.unwrap();
    let config = seed.vendor_data.strip_prefix("#cloud-config\n").unwrap();
    let config: serde_json::Value = serde_json::from_str(config).unwrap();
    let mounts: Vec<&str> =
        config["mounts"].as_array().unwrap().iter().map(|one| one[1].as_str().unwrap()).collect();
    assert_eq!(mounts, ["/used", "/empty", "/new"]);
    let formatted: Vec<&str> = config["fs_setup"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["device"].as_str().unwrap())
        .collect();
    assert_eq!(formatted, ["/dev/disk/by-id/virtio-empty", "/dev/disk/by-id/virtio-disk1"]);
    assert!(config.get("ssh_keys").is_none());
    // Without a path to mount at, nothing was asked for the first boot.
    let plain = create(&engine, "plain", vec![new(GIB)]).unwrap();
    assert_eq!(plain.options.seed, None);
    let both = CreateInstance {
        first_boot: FirstBoot { hostname: Some("dev".into()), ..FirstBoot::default() },
        ..with("both", vec![at(new(GIB), "/data")])
    };
    let seed = engine.instances().create(both).unwrap().options.seed.unwrap();
    assert!(seed.vendor_data.contains("/data") && seed.hostname == "dev");
}

#[test]
fn a_volume_grows_while_no_machine_has_it() {
    let rig = Rig::ready();
    std::fs::set_permissions(rig.dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let engine = rig.open();
    volume(&engine, "data").unwrap();
    let grow = |size| engine.volumes().grow("data", size);
    assert_eq!(grow(2 * GIB).unwrap().size, 2 * GIB);
    for size in [GIB, 2 * GIB, 0, 1 << 60] {
        assert_eq!(grow(size).unwrap_err().code, Code::InvalidSize, "{size}");
    }
    create(&engine, "vm", vec![existing("data")]).unwrap();
    let refusal = grow(3 * GIB).unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.remedy.contains("instance stop vm"), "{refusal:?}");
    engine.instances().stop("vm").unwrap();
    grow(3 * GIB).unwrap();
    engine.instances().start("vm").unwrap();
    engine.instances().delete("vm").unwrap();
    assert_eq!(engine.volumes().grow("none", GIB).unwrap_err().code, Code::NotFound);
    let has_tool = std::process::Command::new("qemu-img").arg("--version").output().is_ok();
    if has_tool {
        let file = NewVolume { format: DiskFormat::Qcow2, ..raw(GIB) };
        let name = "thin".to_owned();
        let request = CreateVolume { name, id: None, file, tags: BTreeMap::new() };
        engine.volumes().create(request).unwrap();
        engine.volumes().grow("thin", 5 * GIB).unwrap();
        create(&engine, "vm", vec![existing("thin")]).unwrap();
    }
}

#[test]
fn a_crash_while_a_volume_grows_leaves_a_volume_that_can_be_used() {
    let rig = Rig::ready();
    let engine = rig.open();
    let id = volume(&engine, "data").unwrap().id;
    create(&engine, "vm", vec![existing("data")]).unwrap();
    engine.instances().stop("vm").unwrap();
    drop(engine);
    let file = rig.config().state_dir.join(format!("volumes/{id}/disk"));
    std::fs::File::options().write(true).open(file).unwrap().set_len(4 * GIB).unwrap();
    let (engine, _) = rig.open_recovered();
    assert_eq!(engine.volumes().find("data").unwrap().0.size, 4 * GIB);
    engine.instances().start("vm").unwrap();
}

#[test]
fn two_disks_are_not_mounted_at_one_directory() {
    let rig = Rig::ready();
    let engine = rig.open();
    let mounted = |at: &str| DiskWish { mount_path: Some(at.into()), ..new(GIB) };
    for (one, two) in [("/data", "/data"), ("/data", "/data/"), ("/a/b", "/a//b")] {
        let refusal = create(&engine, "vm", vec![mounted(one), mounted(two)]).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidRequest, "{one} {two}");
    }
    create(&engine, "vm", vec![mounted("/data"), mounted("/data/b")]).unwrap();
}

/// An archive with many files in one directory, which mke2fs needs long for.
fn large_archive(rig: &Rig) -> std::fs::File {
    let dir = rig.dir.path().join("files");
    std::fs::create_dir(&dir).unwrap();
    for number in 0..30_000 {
        std::fs::write(dir.join(number.to_string()), "").unwrap();
    }
    let path = rig.dir.path().join("files.tar.gz");
    let mut tar = std::process::Command::new("tar");
    assert!(tar.arg("czf").arg(&path).arg("-C").arg(&dir).arg(".").status().unwrap().success());
    std::fs::File::open(path).unwrap()
}

#[test]
fn a_volume_that_is_being_made_is_cancelled_by_its_deletion_or_the_end_of_the_daemon() {
    if std::process::Command::new("mke2fs").arg("-V").output().is_err() {
        eprintln!("SKIPPED: needs e2fsprogs");
        return;
    }
    let rig = Rig::ready();
    std::fs::set_permissions(rig.dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let engine = rig.open();
    let archive = large_archive(&rig);
    let request =
        || CreateVolume { name: "site".into(), id: None, file: raw(GIB), tags: BTreeMap::new() };
    let ends: [&dyn Fn(); 2] =
        [&|| engine.volumes().delete("site").unwrap(), &|| engine.cancel_all()];
    for end in ends {
        std::thread::scope(|scope| {
            let archive = std::fs::File::open(rig.dir.path().join("files.tar.gz")).unwrap();
            let cancel = engine::Cancel::default();
            let volumes = engine.volumes();
            let making =
                scope.spawn(move || volumes.create_from_archive(request(), archive, &cancel));
            let dir = rig.config().state_dir.join("volumes");
            while std::fs::read_dir(&dir).map_or(0, Iterator::count) == 0 {
                assert!(!making.is_finished(), "{:?}", making.join());
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let second = volume(&engine, "site").unwrap_err();
            assert_eq!(second.code, Code::AlreadyExists);
            assert!(second.remedy.contains("volume rm site"), "{second:?}");
            end();
            let refusal = making.join().unwrap().unwrap_err();
            assert_eq!(refusal.code, Code::InvalidState, "{refusal:?}");
        });
        assert!(names(&rig, &engine).is_empty());
    }
    drop(archive);
    assert_eq!(engine.volumes().delete("site").unwrap_err().code, Code::NotFound);
}

#[test]
fn a_volume_has_the_content_of_an_image() {
    if std::process::Command::new("qemu-img").arg("--version").output().is_err() {
        eprintln!("SKIPPED: needs qemu-utils");
        return;
    }
    let rig = Rig::ready();
    std::fs::set_permissions(rig.dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let engine = rig.open();
    let make = |name: &str, image: &str, file: NewVolume| {
        let request = CreateVolume { name: name.into(), id: None, file, tags: BTreeMap::new() };
        engine.volumes().create_from_image(request, image, &engine::Cancel::default())
    };
    let thick = NewVolume { allocate: true, ..raw(4 << 20) };
    let thin = NewVolume { format: DiskFormat::Qcow2, ..raw(4 << 20) };
    for (name, file) in [("raw", raw(4 << 20)), ("thick", thick), ("thin", thin)] {
        let volume = make(name, "debian", file).unwrap();
        assert!(engine.volumes().used(volume.id).unwrap() >= 4096, "{name}");
        if volume.format == DiskFormat::Raw {
            let path = rig.config().state_dir.join(format!("volumes/{}/disk", volume.id));
            let bytes = std::fs::read(path).unwrap();
            assert_eq!((bytes.len(), &bytes[..4096]), (4 << 20, &[7; 4096][..]), "{name}");
            assert!(bytes[4096..].iter().all(|byte| *byte == 0), "{name}");
        }
        create(&engine, &format!("vm-{name}"), vec![existing(name)]).unwrap();
    }
    assert!(engine.volumes().used(volume_id(&engine, "thick")).unwrap() >= 4 << 20);
    assert_eq!(make("none", "none", raw(GIB)).unwrap_err().code, Code::NotFound);
    assert_eq!(make("raw", "debian", raw(GIB)).unwrap_err().code, Code::AlreadyExists);
    rig.import_of(&engine, "large", 8 << 20);
    let refusal = make("small", "large", raw(4 << 20)).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidSize);
    assert!(refusal.message.contains("has 8 MB, more than the requested 4MB"), "{refusal:?}");
    engine.images().delete("large").unwrap();
    assert_eq!(names(&rig, &engine), ["raw", "thick", "thin"]);
}

fn volume_id(engine: &Engine, name: &str) -> Uuid {
    engine.volumes().find(name).unwrap().0.id
}
