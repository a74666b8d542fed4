//! Volumes from archives, by the real mke2fs; what is in them is read by debugfs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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
    // mke2fs passes through it.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
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

/// mke2fs runs without privileges, so it sees other modes than the archive has.
#[test]
fn files_that_no_other_user_can_read_keep_their_modes_and_owners() {
    if !tools() || !rustix::process::geteuid().is_root() {
        return;
    }
    let top = TempDir::new().unwrap();
    let source = top.path().join("source");
    fs::create_dir_all(source.join("closed")).unwrap();
    let modes = [("none", 0o000), ("su", 0o4711), ("shadow", 0o640), ("closed/a \n\"b\"", 0o600)];
    for (name, mode) in modes {
        let path = source.join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::symlink("none", source.join("link")).unwrap();
    fs::hard_link(source.join("shadow"), source.join("closed/hard")).unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o1700)).unwrap();
    let volumes = volumes(top.path());
    for (number, size) in [(1, 16 * MIB), (2, 20 << 30)] {
        let id = Uuid::from_u128(number);
        let file = archive(&source, "70001");
        volumes.create_from_archive(id, new(size), file, &Cancel::default()).unwrap();
        volumes.keep(id).unwrap();
        let disk = volumes.path(id);
        for (name, mode) in modes.into_iter().take(3).chain([("closed", 0o1700), ("link", 0o777)]) {
            let said = debugfs(&disk, &format!("stat /{name}"));
            assert!(said.contains(&format!("Mode:  0{mode:03o}")), "{name}: {said}");
            assert!(said.contains("User: 70001   Group: 70001"), "{name}: {said}");
        }
        assert!(debugfs(&disk, "stat /closed/hard").contains("Links: 2"));
        assert_eq!(debugfs(&disk, "cat /none"), "none");
        let checked = Command::new("e2fsck").args(["-f", "-n"]).arg(&disk).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[test]
fn a_volume_has_room_for_many_small_files() {
    if !tools() {
        return;
    }
    let top = TempDir::new().unwrap();
    let source = top.path().join("source");
    for number in 0..33_000 {
        let dir = source.join(format!("{}", number % 40));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(number.to_string()), "").unwrap();
    }
    // mke2fs gives it 32768 inodes, if it is not asked for more.
    let volumes = volumes(top.path());
    let id = Uuid::from_u128(1);
    let file = archive(&source, "0");
    volumes.create_from_archive(id, new(512 * MIB), file, &Cancel::default()).unwrap();
}

#[test]
fn a_cancelled_volume_leaves_nothing() {
    if !tools() {
        return;
    }
    let top = TempDir::new().unwrap();
    let source = top.path().join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..30_000 {
        fs::write(source.join(number.to_string()), "").unwrap();
    }
    let volumes = volumes(top.path());
    let (id, cancel, file) = (Uuid::from_u128(1), Cancel::default(), archive(&source, "0"));
    std::thread::scope(|scope| {
        let make = || volumes.create_from_archive(id, new(1 << 30), file, &cancel);
        let making = scope.spawn(make);
        // mke2fs works on it, for half a minute.
        let tree = volumes.path(id).parent().unwrap().with_file_name(format!("pending-{id}"));
        while fs::metadata(tree.join("disk")).map_or(0, |disk| disk.blocks()) == 0 {
            assert!(!making.is_finished(), "it ended");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        cancel.set();
        let made = making.join().unwrap();
        assert!(matches!(made, Err(ImageError::Cancelled)), "{made:?}");
    });
    assert_eq!(fs::read_dir(top.path().join("volumes")).unwrap().count(), 0);
}
