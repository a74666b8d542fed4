//! Images that are made: who may use, change and remove them, and what a crash leaves. By the real qemu-img.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use engine::{CreateInstance, Engine, Image, ImageStatus, MadeOf, MakeImage};
use model::{Code, DiskFormat, Refusal};
use support::{Rig, wish};

const MIB: u64 = 1 << 20;

/// A rig with the image `debian`, which the user of qemu-img can reach.
fn rig() -> Option<Rig> {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        eprintln!("SKIPPED: needs qemu-utils");
        return None;
    }
    let rig = Rig::ready();
    std::fs::set_permissions(rig.dir.path(), Permissions::from_mode(0o711)).unwrap();
    Some(rig)
}

fn make(engine: &Engine, name: &str, content: MadeOf) -> Result<Image, Refusal> {
    engine.images().make(MakeImage { name: name.into(), content, tags: BTreeMap::new() })?;
    loop {
        let image = engine.images().find(name)?;
        if matches!(image.status, ImageStatus::Ready | ImageStatus::Failed) {
            return Ok(image);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn empty(size: u64) -> MadeOf {
    MadeOf::Nothing { size, format: DiskFormat::Qcow2, allocate: false }
}

fn over(base: &str, size: Option<u64>) -> MadeOf {
    MadeOf::Base { base: base.into(), size }
}

fn copy(from: &str, format: DiskFormat) -> MadeOf {
    MadeOf::Copy { from: from.into(), format, compress: false }
}

#[test]
fn an_image_that_others_are_made_of_stays() {
    let Some(rig) = rig() else { return };
    let engine = rig.open();
    let layer = make(&engine, "larger", over("debian", Some(32 * MIB))).unwrap();
    assert_eq!((layer.status, layer.disk_format), (ImageStatus::Ready, Some(DiskFormat::Qcow2)));
    let disks = engine.images().disks().unwrap();
    assert_eq!(disks["larger"].virtual_size, Some(32 * MIB));
    assert_eq!(disks["larger"].base.as_deref(), Some("debian"));
    let refusal = engine.images().delete("debian").unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.message.contains("\"larger\" is a layer over"), "{refusal:?}");
    assert_eq!(engine.images().resize("debian", 64 * MIB, false).unwrap_err().code, Code::InUse);
    let flat = make(&engine, "flat", copy("larger", DiskFormat::Raw)).unwrap();
    assert_eq!((flat.status, flat.size_bytes), (ImageStatus::Ready, Some(32 * MIB)));
    let vm = CreateInstance { image: Some("larger".into()), ..wish("vm", &[]) };
    engine.instances().create(vm).unwrap();
    assert_eq!(engine.images().delete("larger").unwrap_err().code, Code::InUse);
    assert_eq!(engine.images().resize("larger", 64 * MIB, false).unwrap_err().code, Code::InUse);
    engine.instances().delete("vm").unwrap();
    engine.images().delete("larger").unwrap();
    engine.images().delete("debian").unwrap();
    engine.images().delete("flat").unwrap();
}

#[test]
fn a_size_grows_and_shrinks_only_with_consent() {
    let Some(rig) = rig() else { return };
    let engine = rig.open();
    make(&engine, "empty", empty(16 * MIB)).unwrap();
    let grown = engine.images().resize("empty", 64 * MIB, false).unwrap();
    assert!(grown.digest.is_empty(), "{grown:?}");
    let refusal = engine.images().resize("empty", 8 * MIB, false).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidSize);
    assert!(refusal.remedy.contains("--shrink"), "{refusal:?}");
    engine.images().resize("empty", 8 * MIB, true).unwrap();
    assert_eq!(engine.images().disks().unwrap()["empty"].virtual_size, Some(8 * MIB));
    drop(engine);
    // A crash after the file was changed and before that was recorded.
    rig.sqlite()
        .execute("UPDATE images SET virtual_size = 1048576 WHERE name = 'empty'", [])
        .unwrap();
    let (engine, _) = rig.open_recovered();
    assert_eq!(engine.images().disks().unwrap()["empty"].virtual_size, Some(8 * MIB));
}

#[test]
fn what_cannot_be_made_is_refused_at_once_or_fails() {
    let Some(rig) = rig() else { return };
    let engine = rig.open();
    let code = |content| make(&engine, "new", content).unwrap_err().code;
    assert_eq!(code(over("none", None)), Code::NotFound);
    assert_eq!(code(over("debian", Some(1))), Code::InvalidSize);
    assert_eq!(code(empty(0)), Code::InvalidSize);
    assert_eq!(code(empty(1 << 60)), Code::InvalidSize);
    let compressed =
        MadeOf::Copy { from: "debian".into(), format: DiskFormat::Raw, compress: true };
    assert_eq!(code(compressed), Code::InvalidRequest);
    let allocated = MadeOf::Nothing { size: MIB, format: DiskFormat::Qcow2, allocate: true };
    assert_eq!(code(allocated), Code::InvalidRequest);
    let again = make(&engine, "debian", empty(MIB)).unwrap_err();
    assert_eq!(again.code, Code::AlreadyExists);
    // A raw image beyond the limit of its file fails, and can be made again as qcow2.
    let raw = MadeOf::Nothing { size: 1 << 40, format: DiskFormat::Raw, allocate: false };
    let failed = make(&engine, "new", raw).unwrap();
    assert!(failed.error.unwrap().contains("larger than 256 GB"));
    assert_eq!(make(&engine, "new", empty(1 << 40)).unwrap().status, ImageStatus::Ready);
}
