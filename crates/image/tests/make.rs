//! Images that are made here, by the real qemu-img.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image::{Budget, Cancel, ImageError, Limits, Parts, Recipe, Source, Store, Tool};
use model::{Disk, DiskFormat, HostError};
use tempfile::TempDir;
use uuid::Uuid;

const MIB: u64 = 1 << 20;

struct Free(u64);

impl Disk for Free {
    fn free_space(&self, _: &Path) -> Result<u64, HostError> {
        Ok(self.0)
    }

    fn write_out(&self, _: &Path) {}
}

struct Dirs {
    top: TempDir,
    store: Store,
}

impl Dirs {
    /// A store that the tool's user can reach.
    fn new() -> Option<Self> {
        if Command::new("qemu-img").arg("--version").output().is_err() {
            eprintln!("SKIPPED: needs qemu-utils");
            return None;
        }
        let top = TempDir::new().unwrap();
        fs::set_permissions(top.path(), Permissions::from_mode(0o711)).unwrap();
        let budget = Budget::new(Arc::new(Free(1 << 40)), Limits::default());
        let dirs = vec![top.path().to_owned()];
        let tool = Tool::of_user(1_900_001_000);
        let store = Store::new(top.path().join("images"), dirs, budget, tool);
        Some(Self { top, store })
    }

    fn make(&self, id: u128, recipe: &Recipe) -> Result<image::Imported, ImageError> {
        self.store.make(Uuid::from_u128(id), recipe, &Cancel::default())
    }

    /// An imported raw image of 8 MiB with data in its middle.
    fn import(&self, id: u128) {
        let path = self.top.path().join("source");
        let file = File::create(&path).unwrap();
        file.set_len(8 * MIB).unwrap();
        file.write_all_at(&[7; 4096], 3 * MIB).unwrap();
        let disk = Some((Source::Below(path), DiskFormat::Raw));
        let parts = Parts { disk, ..Parts::default() };
        self.store.import(Uuid::from_u128(id), parts, &Cancel::default()).unwrap();
    }

    fn disk(&self, id: u128) -> std::path::PathBuf {
        self.store.paths(Uuid::from_u128(id)).disk
    }

    /// What is left of unfinished images.
    fn entries(&self) -> usize {
        fs::read_dir(self.top.path().join("images")).unwrap().count()
    }

    /// What the image looks like to a guest.
    fn content(&self, id: u128, format: &str) -> Vec<u8> {
        let out = self.top.path().join("out");
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-f", format, "-O", "raw"]).arg(self.disk(id)).arg(&out);
        assert!(convert.status().unwrap().success());
        fs::read(out).unwrap()
    }
}

fn convert(to: DiskFormat, from: u128, from_format: DiskFormat, compress: bool) -> Recipe {
    Recipe::Convert {
        from: Uuid::from_u128(from),
        from_format,
        virtual_size: 8 * MIB,
        format: to,
        compress,
    }
}

#[test]
fn an_image_is_converted_there_and_back() {
    let Some(dirs) = Dirs::new() else { return };
    dirs.import(1);
    for (id, compress) in [(2, false), (3, true)] {
        let made = dirs.make(id, &convert(DiskFormat::Qcow2, 1, DiskFormat::Raw, compress));
        let made = made.unwrap();
        assert_eq!(made.disk_virtual_size, Some(8 * MIB));
        assert!(made.size_bytes < MIB, "{made:?}");
        let file = fs::metadata(dirs.disk(id)).unwrap();
        assert_eq!(file.mode() & 0o7777, 0o644);
        assert_eq!(file.uid(), fs::metadata(dirs.top.path()).unwrap().uid(), "taken back");
    }
    let back = dirs.make(4, &convert(DiskFormat::Raw, 3, DiskFormat::Qcow2, false)).unwrap();
    assert_eq!(back.size_bytes, 8 * MIB);
    assert_eq!(fs::read(dirs.disk(4)).unwrap(), fs::read(dirs.disk(1)).unwrap());
    assert!(dirs.store.used(Uuid::from_u128(4)).unwrap() < MIB, "holes stay");
    assert_eq!(dirs.entries(), 4);
}

#[test]
fn what_cannot_be_converted_leaves_nothing() {
    let Some(dirs) = Dirs::new() else { return };
    dirs.import(1);
    // Declared as a format that it has not.
    let error = dirs.make(2, &convert(DiskFormat::Raw, 1, DiskFormat::Qcow2, false)).unwrap_err();
    assert!(error.to_string().contains("not in qcow2 format"), "{error}");
    let cancel = Cancel::default();
    cancel.set();
    let recipe = convert(DiskFormat::Qcow2, 1, DiskFormat::Raw, false);
    let error = dirs.store.make(Uuid::from_u128(2), &recipe, &cancel).unwrap_err();
    assert!(matches!(error, ImageError::Cancelled), "{error}");
    assert_eq!(dirs.entries(), 1);
}

#[test]
fn an_empty_image_has_its_size() {
    let Some(dirs) = Dirs::new() else { return };
    let empty = |format, allocate| Recipe::Empty { size: 16 * MIB, format, allocate };
    for (id, format, allocate, least) in [
        (1, DiskFormat::Raw, false, 0),
        (2, DiskFormat::Raw, true, 16 * MIB),
        (3, DiskFormat::Qcow2, false, 0),
    ] {
        let made = dirs.make(id, &empty(format, allocate)).unwrap();
        assert_eq!(made.disk_virtual_size, Some(16 * MIB));
        let used = dirs.store.used(Uuid::from_u128(id)).unwrap();
        assert!(used >= least && used < least + MIB, "{used}");
    }
}

#[test]
fn a_layer_shows_its_base_and_may_be_larger() {
    let Some(dirs) = Dirs::new() else { return };
    dirs.import(1);
    let over = |size| Recipe::Over { base: Uuid::from_u128(1), base_format: DiskFormat::Raw, size };
    assert_eq!(dirs.make(2, &over(None)).unwrap().disk_virtual_size, Some(8 * MIB));
    assert_eq!(dirs.make(3, &over(Some(32 * MIB))).unwrap().disk_virtual_size, Some(32 * MIB));
    assert_eq!(dirs.content(2, "qcow2"), fs::read(dirs.disk(1)).unwrap());
    // A copy of it has no base.
    dirs.make(4, &convert(DiskFormat::Qcow2, 2, DiskFormat::Qcow2, false)).unwrap();
    dirs.store.remove(Uuid::from_u128(1)).unwrap();
    assert_eq!(dirs.content(4, "qcow2")[3 << 20..][..4096], [7; 4096]);
    let layer = Uuid::from_u128(3);
    assert_eq!(dirs.store.settle(layer, DiskFormat::Qcow2, true).unwrap(), 32 * MIB);
    assert!(dirs.store.settle(layer, DiskFormat::Qcow2, false).is_err(), "it has a base");
}

#[test]
fn an_image_grows_and_shrinks_in_place() {
    let Some(dirs) = Dirs::new() else { return };
    dirs.import(1);
    dirs.make(2, &convert(DiskFormat::Qcow2, 1, DiskFormat::Raw, false)).unwrap();
    for (id, format) in [(1, DiskFormat::Raw), (2, DiskFormat::Qcow2)] {
        let id = Uuid::from_u128(id);
        dirs.store.resize(id, format, 64 * MIB, false).unwrap();
        assert_eq!(dirs.store.settle(id, format, false).unwrap(), 64 * MIB);
        dirs.store.resize(id, format, 4 * MIB, true).unwrap();
        assert_eq!(dirs.store.settle(id, format, false).unwrap(), 4 * MIB);
        assert_eq!(fs::metadata(dirs.store.paths(id).disk).unwrap().mode() & 0o7777, 0o644);
    }
    assert_eq!(dirs.content(2, "qcow2")[3 << 20..][..4096], [7; 4096]);
}
