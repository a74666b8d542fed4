//! Volumes from archives, by the real mke2fs; what is in them is read by debugfs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image::{Budget, Cancel, ImageError, Limits, NewVolume, Tool, Volumes};
use model::{Disk, DiskFormat, HostError};
use tempfile::TempDir;
use uuid::Uuid;

const MIB: u64 = 1 << 20;

struct Free;

impl Disk for Free {
    fn free_space(&self, _: &Path) -> Result<u64, HostError> {
        Ok(1 << 40)
    }

    fn write_out(&self, _: &Path) {}
}

fn tools() -> bool {
    let has = |name: &str| Command::new(name).arg("-V").output().is_ok();
    let all = has("mke2fs") && has("debugfs") && has("tar");
    if !all {
        eprintln!("SKIPPED: needs e2fsprogs and tar");
    }
    all
}

fn volumes(dir: &Path) -> Volumes {
    let budget = Budget::new(Arc::new(Free), Limits::default());
    Volumes::new(dir.join("volumes"), budget, Tool::of_user(1_900_001_000))
}

fn new(size: u64) -> NewVolume {
    NewVolume { size, format: DiskFormat::Raw, allocate: false }
}

/// An archive of a directory, as tar makes it.
fn archive(dir: &Path, owner: &str) -> File {
    let path = dir.with_extension("tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("czf").arg(&path).args(["--owner", owner, "--group", owner, "-C"]).arg(dir).arg(".");
    assert!(tar.status().unwrap().success());
    File::open(path).unwrap()
}

fn debugfs(disk: &Path, request: &str) -> String {
    let output = Command::new("debugfs").args(["-R", request]).arg(disk).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_volume_gets_the_files_of_an_archive() {
    if !tools() {
        return;
    }
    let top = TempDir::new().unwrap();
    let source = top.path().join("source");
    fs::create_dir_all(source.join("sub/with space")).unwrap();
    fs::write(source.join("sub/with space/file"), "hello\n").unwrap();
    std::os::unix::fs::symlink("/etc/shadow", source.join("link")).unwrap();
    let volumes = volumes(top.path());
    let id = Uuid::from_u128(1);
    let file = archive(&source, "1234");
    volumes.create_from_archive(id, new(64 * MIB), file, &Cancel::default()).unwrap();
    volumes.keep(id).unwrap();
    volumes.check(id, new(64 * MIB)).unwrap();
    let disk = volumes.path(id);
    let found = fs::metadata(&disk).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_eq!(found.uid(), fs::metadata(top.path()).unwrap().uid(), "taken back");
    assert!(volumes.used(id).unwrap() < 8 * MIB, "it has holes");
    assert!(!volumes.is_empty(id), "a guest does not format it");
    assert_eq!(fs::read_dir(disk.parent().unwrap()).unwrap().count(), 1, "only the disk");
    assert_eq!(debugfs(&disk, "cat \"/sub/with space/file\""), "hello\n");
    assert!(debugfs(&disk, "stat /link").contains("/etc/shadow"));
    if rustix::process::geteuid().is_root() {
        assert!(debugfs(&disk, "stat /sub").contains("User:  1234"));
    }
    let checked = Command::new("e2fsck").args(["-f", "-n"]).arg(&disk).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn what_does_not_fit_leaves_nothing() {
    if !tools() {
        return;
    }
    let top = TempDir::new().unwrap();
    let source = top.path().join("source");
    fs::create_dir(&source).unwrap();
    let volumes = volumes(top.path());
    // More than the volume, and less than the volume but more than is left beside its tables.
    for (size, length) in [(8 * MIB, 9 * MIB), (8 * MIB, 8 * MIB - 8192)] {
        let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        fs::write(source.join("file"), bytes).unwrap();
        let file = archive(&source, "0");
        let id = Uuid::from_u128(2);
        let made = volumes.create_from_archive(id, new(size), file, &Cancel::default());
        assert!(matches!(made, Err(ImageError::ArchiveTooLarge { .. })), "{made:?}");
    }
    let id = Uuid::from_u128(3);
    let file = File::open("/dev/null").unwrap();
    let made = volumes.create_from_archive(id, new(8 * MIB), file, &Cancel::default());
    assert!(matches!(made, Err(ImageError::Archive { .. })), "{made:?}");
    assert_eq!(fs::read_dir(top.path().join("volumes")).unwrap().count(), 0);
}
