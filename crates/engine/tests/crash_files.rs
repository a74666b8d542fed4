//! The daemon is killed between any two changes of the files of images and volumes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use engine::{
    Cancel, CreateInstance, CreateVolume, DiskWish, Engine, ImageStatus, MadeOf, MakeImage,
    NewVolume, WantedContent,
};
use model::DiskFormat;
use support::{Rig, wish};

const MIB: u64 = 1 << 20;

fn has_tools() -> bool {
    let has = |name: &str| Command::new(name).arg("-V").output().is_ok();
    let all = has("mke2fs") && has("qemu-img") && has("tar");
    if !all {
        eprintln!("SKIPPED: needs e2fsprogs, qemu-utils and tar");
    }
    all
}

/// A rig with an image and an archive, which the user of the programs can reach.
fn rig() -> Rig {
    let rig = Rig::ready();
    std::fs::set_permissions(rig.dir.path(), Permissions::from_mode(0o711)).unwrap();
    let dir = rig.dir.path().join("files");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "data").unwrap();
    let mut tar = Command::new("tar");
    tar.arg("czf").arg(rig.dir.path().join("files.tar.gz")).arg("-C").arg(&dir).arg(".");
    assert!(tar.status().unwrap().success());
    rig
}

fn volume(name: &str, size: u64, format: DiskFormat) -> CreateVolume {
    let file = NewVolume { size, format, allocate: false };
    CreateVolume { name: name.into(), id: None, file, tags: BTreeMap::new() }
}

fn make(rig: &Rig, engine: &Engine, name: &str, content: MadeOf) {
    let request = MakeImage { name: name.into(), content, tags: BTreeMap::new() };
    engine.images().make(request).unwrap();
    while engine.images().find(name).unwrap().status != ImageStatus::Ready {
        if rig.host.has_died() {
            std::panic::resume_unwind(Box::new(sim::Died));
        }
        let image = engine.images().find(name).unwrap();
        assert_ne!(image.status, ImageStatus::Failed, "{:?}", image.error);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes, changes and deletes files in every way.
fn life(rig: &Rig, engine: &Engine) {
    let cancel = Cancel::default();
    let archive = File::open(rig.dir.path().join("files.tar.gz")).unwrap();
    let (volumes, images) = (engine.volumes(), engine.images());
    let site = volume("site", 8 * MIB, DiskFormat::Raw);
    volumes.create_from_archive(site, archive, &cancel).unwrap();
    let copy = volume("copy", 2 * MIB, DiskFormat::Qcow2);
    volumes.create_from_image(copy, "debian", &cancel).unwrap();
    volumes.create(volume("plain", MIB, DiskFormat::Raw)).unwrap();
    volumes.grow("site", 16 * MIB).unwrap();
    volumes.grow("copy", 4 * MIB).unwrap();
    let (format, allocate) = (DiskFormat::Qcow2, false);
    make(rig, engine, "empty", MadeOf::Nothing { size: MIB, format, allocate });
    make(rig, engine, "layer", MadeOf::Base { base: "debian".into(), size: Some(2 * MIB) });
    make(rig, engine, "converted", MadeOf::Copy { from: "debian".into(), format, compress: false });
    images.resize("empty", 2 * MIB, false).unwrap();
    volumes.delete("site").unwrap();
    images.delete("layer").unwrap();
}

fn names(dir: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Checks that files and records agree, and that the daemon has all its files back.
fn assert_consistent(rig: &Rig, engine: &Engine, why: &str) {
    let state = rig.config().state_dir;
    let own = rustix::process::geteuid().as_raw();
    let volumes = engine.volumes().by_id().unwrap();
    let ids: BTreeSet<String> = volumes.keys().map(ToString::to_string).collect();
    assert_eq!(names(&state.join("volumes")), ids, "{why}: volumes");
    for id in &ids {
        let dir = state.join("volumes").join(id);
        assert_eq!(names(&dir), BTreeSet::from(["disk".to_owned()]), "{why}");
        assert_eq!(std::fs::metadata(dir.join("disk")).unwrap().uid(), own, "{why}");
    }
    let images = engine.images().all(&BTreeMap::new()).unwrap();
    let ready = images.iter().filter(|image| image.status == ImageStatus::Ready).count();
    assert!(
        images.iter().all(|image| matches!(image.status, ImageStatus::Ready | ImageStatus::Failed)),
        "{why}: {images:?}"
    );
    let dirs = names(&state.join("images"));
    let disks = dirs.iter().map(|name| state.join("images").join(name).join("disk"));
    assert_eq!(disks.clone().filter(|disk| disk.exists()).count(), ready, "{why}: {dirs:?}");
    for disk in disks.filter(|disk| disk.exists()) {
        assert_eq!(std::fs::metadata(disk).unwrap().uid(), own, "{why}");
    }
    assert!(dirs.iter().all(|name| !name.starts_with("unfinished")), "{why}: {dirs:?}");
    // A machine can have all volumes.
    let disk = |name: &String| DiskWish {
        content: WantedContent::Volume(name.clone()),
        bus: None,
        serial: None,
        read_only: false,
        mount_path: None,
    };
    let disks = volumes.values().map(|volume| disk(&volume.name)).collect();
    let request = CreateInstance { disks, ..wish("vm", &[]) };
    engine.instances().create(request).unwrap_or_else(|refusal| panic!("{why}: {refusal:?}"));
    engine.instances().delete("vm").unwrap();
}

#[test]
fn killed_between_any_two_changes_of_files_nothing_is_left_over_or_lost() {
    if !has_tools() {
        return;
    }
    let mut changes = 0;
    loop {
        let rig = rig();
        let holders = Arc::strong_count(&rig.host);
        let engine = rig.open();
        rig.host.dies_after_file_changes(Some(changes));
        let ended = catch_unwind(AssertUnwindSafe(|| life(&rig, &engine)));
        drop(engine);
        // A dead process has no threads: those of the engine have it, too.
        while Arc::strong_count(&rig.host) > holders {
            std::thread::sleep(Duration::from_millis(1));
        }
        rig.host.dies_after_file_changes(None);
        if let Err(cause) = &ended {
            assert!(cause.is::<sim::Died>(), "{changes}");
        }
        let why = format!("killed after {changes} changes of files");
        let (engine, _) = rig.open_recovered();
        assert_consistent(&rig, &engine, &why);
        if ended.is_ok() {
            break;
        }
        // What was there can be removed, and all of it done again.
        for volume in engine.volumes().by_id().unwrap().into_values() {
            engine.volumes().delete(&volume.name).unwrap();
        }
        for name in ["empty", "layer", "converted"] {
            let _ = engine.images().delete(name);
        }
        if changes % 8 == 0 {
            life(&rig, &engine);
        }
        changes += 1;
    }
    assert!(changes > 40, "only {changes} changes");
}
