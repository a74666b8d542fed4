//! Imports: what is accepted, what is refused, and that a refused import leaves nothing behind.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{Budget, Cancel, ImageError, Limits, Parts, RESERVE, Source, Store, Tool};
use model::{Code, Disk, DiskFormat, HostError, Refusal};
use tempfile::TempDir;
use uuid::Uuid;

/// A disk whose free space does not change.
struct Free(u64);

impl Disk for Free {
    fn free_space(&self, _: &Path) -> Result<u64, HostError> {
        Ok(self.0)
    }

    fn write_out(&self, _: &Path) {}
}

fn budget(free: u64, limits: Limits) -> Arc<Budget> {
    Budget::new(Arc::new(Free(free)), limits)
}

/// A host with a store and one directory for imports.
struct Dirs {
    top: TempDir,
    store: Store,
}

impl Dirs {
    fn new() -> Self {
        Self::with(u64::MAX)
    }

    /// On a disk with this much free space.
    fn with(free: u64) -> Self {
        let top = TempDir::new().unwrap();
        fs::create_dir(top.path().join("imports")).unwrap();
        let imports = vec![top.path().join("imports")];
        let store = Store::new(
            top.path().join("images"),
            imports,
            budget(free, Limits::default()),
            Tool::default(),
        );
        Self { top, store }
    }

    fn imports(&self) -> PathBuf {
        self.top.path().join("imports")
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.imports().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn import_disk(
        &self,
        path: impl AsRef<Path>,
        format: DiskFormat,
    ) -> Result<image::Imported, ImageError> {
        let parts = disk(Source::Below(path.as_ref().into()), format);
        self.store.import(Uuid::from_u128(1), parts, &Cancel::default())
    }

    fn refused(&self, path: impl AsRef<Path>, format: DiskFormat) -> ImageError {
        let error = self.import_disk(path, format).unwrap_err();
        let left = fs::read_dir(self.top.path().join("images")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing is left of a refused import");
        error
    }
}

fn disk(source: Source, format: DiskFormat) -> Parts {
    Parts { disk: Some((source, format)), ..Parts::default() }
}

fn qcow2(backing: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    bytes[8..16].copy_from_slice(&backing.to_be_bytes());
    bytes[20..24].copy_from_slice(&16u32.to_be_bytes());
    bytes[24..32].copy_from_slice(&(5u64 << 30).to_be_bytes());
    bytes[100..104].copy_from_slice(&104u32.to_be_bytes());
    bytes
}

fn bzimage() -> Vec<u8> {
    let mut bytes = vec![0; 2048];
    bytes[0x1fe..0x206].copy_from_slice(b"\x55\xaa\xeb\x66HdrS");
    bytes
}

#[test]
fn a_raw_disk_is_taken_by_relative_and_absolute_path() {
    let place = Dirs::new();
    let path = place.put("root.img", b"abc");
    for asked in [Path::new("root.img"), &path] {
        let imported = place.import_disk(asked, DiskFormat::Raw).unwrap();
        // The digest of one part is the one that sha256sum prints.
        assert_eq!(
            imported.digest,
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!((imported.size_bytes, imported.disk_virtual_size), (3, Some(512)));
    }
    let files = place.store.paths(Uuid::from_u128(1));
    assert_eq!(fs::read(&files.disk).unwrap(), b"abc");
    assert_eq!(fs::metadata(&files.disk).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(
        fs::metadata(files.disk.parent().unwrap()).unwrap().permissions().mode() & 0o777,
        0o711
    );
    assert!(path.exists(), "a file below an import directory is left there");
}

#[test]
fn a_raw_disk_stays_raw_whatever_it_begins_with() {
    let place = Dirs::new();
    place.put("trap.img", &qcow2(4096));
    assert_eq!(
        place.import_disk("trap.img", DiskFormat::Raw).unwrap().disk_virtual_size,
        Some(4096)
    );
}

#[test]
fn a_qcow2_has_the_size_of_its_header_and_no_backing_file() {
    let place = Dirs::new();
    place.put("good.qcow2", &qcow2(0));
    let imported = place.import_disk("good.qcow2", DiskFormat::Qcow2).unwrap();
    assert_eq!((imported.size_bytes, imported.disk_virtual_size), (4096, Some(5 << 30)));
    let place = Dirs::new();
    place.put("bad.qcow2", &qcow2(512));
    let refusal = Refusal::from(place.refused("bad.qcow2", DiskFormat::Qcow2));
    assert_eq!(refusal.code, Code::InvalidImage);
    assert!(refusal.message.contains("backing file"), "{refusal}");
    assert!(refusal.remedy.contains("qemu-img convert"), "{}", refusal.remedy);
}

#[test]
fn no_path_leads_out_of_its_directory() {
    let place = Dirs::new();
    let secret = place.top.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    symlink(&secret, place.imports().join("absolute")).unwrap();
    symlink("../secret", place.imports().join("relative")).unwrap();
    for asked in ["../secret", "absolute", "relative", "./../secret"] {
        let error = place.refused(asked, DiskFormat::Raw);
        assert!(matches!(error, ImageError::Outside { .. }), "{asked}: {error}");
    }
    for asked in [secret, place.imports().join("../secret")] {
        let error = place.refused(&asked, DiskFormat::Raw);
        assert!(matches!(error, ImageError::Outside { .. }), "{}: {error}", asked.display());
    }
    symlink("inside", place.imports().join("link")).unwrap();
    place.put("inside", b"x");
    assert!(place.import_disk("link", DiskFormat::Raw).is_ok(), "a link within is followed");
}

#[test]
fn only_regular_files_with_content_are_taken() {
    let place = Dirs::new();
    fs::create_dir(place.imports().join("dir")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.imports().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for asked in ["dir", "pipe"] {
        assert!(
            matches!(place.refused(asked, DiskFormat::Raw), ImageError::NotAFile { .. }),
            "{asked}"
        );
    }
    place.put("empty", b"");
    assert!(matches!(place.refused("empty", DiskFormat::Raw), ImageError::Rejected { .. }));
    let error = place.refused("nowhere", DiskFormat::Raw);
    assert_eq!(Refusal::from(error).code, Code::NotFound);
}

#[test]
fn without_a_configured_directory_the_remedy_is_to_upload() {
    let top = TempDir::new().unwrap();
    let store = Store::new(
        top.path().join("images"),
        Vec::new(),
        budget(u64::MAX, Limits::default()),
        Tool::default(),
    );
    let parts = disk(Source::Below("/etc/hostname".into()), DiskFormat::Raw);
    let refusal =
        Refusal::from(store.import(Uuid::from_u128(1), parts, &Cancel::default()).unwrap_err());
    assert_eq!(refusal.code, Code::InvalidImage);
    assert!(refusal.remedy.contains("upload"), "{}", refusal.remedy);
}

#[test]
fn a_kernel_bundle_is_checked_and_has_one_digest() {
    let place = Dirs::new();
    place.put("vmlinuz", &bzimage());
    place.put("initrd", b"070701");
    let kernel = Some(Source::Below("vmlinuz".into()));
    let initrd = Some(Source::Below("initrd".into()));
    let bundle = Parts { disk: None, kernel: kernel.clone(), initrd: initrd.clone() };
    let imported = place.store.import(Uuid::from_u128(2), bundle, &Cancel::default()).unwrap();
    assert_eq!((imported.size_bytes, imported.disk_virtual_size), (2048 + 6, None));
    let alone = place
        .store
        .import(Uuid::from_u128(3), Parts { kernel, ..Parts::default() }, &Cancel::default())
        .unwrap();
    assert_ne!(imported.digest, alone.digest);
    let no_kernel = Parts { initrd: initrd.clone(), ..Parts::default() };
    assert!(matches!(
        place.store.import(Uuid::from_u128(4), no_kernel, &Cancel::default()),
        Err(ImageError::InitrdAlone)
    ));
    let wrong = Parts { kernel: initrd, ..Parts::default() };
    let refusal = Refusal::from(
        place.store.import(Uuid::from_u128(4), wrong, &Cancel::default()).unwrap_err(),
    );
    assert!(refusal.message.contains("bzImage"), "{refusal}");
    assert!(matches!(
        place.store.import(Uuid::from_u128(4), Parts::default(), &Cancel::default()),
        Err(ImageError::Empty)
    ));
}

#[test]
fn a_staged_file_is_taken_over_even_when_it_is_refused() {
    let place = Dirs::new();
    let staged = place.top.path().join("upload");
    for (bytes, taken) in [(qcow2(0), true), (qcow2(512), false)] {
        fs::write(&staged, bytes).unwrap();
        let parts = disk(Source::Staged(staged.clone()), DiskFormat::Qcow2);
        assert_eq!(
            place.store.import(Uuid::from_u128(1), parts, &Cancel::default()).is_ok(),
            taken
        );
        assert!(!staged.exists());
    }
    assert!(
        place.store.paths(Uuid::from_u128(1)).disk.exists(),
        "the refused one replaced nothing"
    );
}

#[test]
fn holes_stay_holes_and_count_as_zeros() {
    let place = Dirs::new();
    let path = place.imports().join("sparse.img");
    let file = File::create(&path).unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(b"in the middle", 3 << 20).unwrap();
    file.sync_all().unwrap();
    let sparse = place.import_disk("sparse.img", DiskFormat::Raw).unwrap();
    let copy = place.store.paths(Uuid::from_u128(1)).disk;
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&path).unwrap());
    let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
    assert!(blocks(&copy) <= blocks(&path) + 64, "{} > {}", blocks(&copy), blocks(&path));
    let dense = place.put("dense.img", &fs::read(&path).unwrap());
    assert_eq!(place.import_disk(dense, DiskFormat::Raw).unwrap().digest, sparse.digest);
}

#[test]
fn a_file_with_a_giant_hole_is_refused_before_it_is_read() {
    let place = Dirs::new();
    File::create(place.imports().join("giant.img")).unwrap().set_len(8 << 40).unwrap();
    let refusal = Refusal::from(place.refused("giant.img", DiskFormat::Raw));
    assert_eq!(refusal.code, Code::InvalidImage);
    assert!(refusal.message.contains("larger than 256 GB"), "{refusal}");
    assert!(refusal.remedy.contains("--image-size"), "{}", refusal.remedy);
}

#[test]
fn an_import_that_is_cancelled_ends_and_leaves_nothing() {
    let place = Dirs::new();
    // Its zeros alone would be hashed for minutes.
    File::create(place.imports().join("large.img")).unwrap().set_len(255 << 30).unwrap();
    let cancel = Cancel::default();
    let result = std::thread::scope(|scope| {
        let parts = disk(Source::Below("large.img".into()), DiskFormat::Raw);
        let import = scope.spawn(|| place.store.import(Uuid::from_u128(1), parts, &cancel));
        while fs::read_dir(place.top.path().join("images")).map_or(0, Iterator::count) == 0 {
            std::thread::yield_now();
        }
        cancel.set();
        import.join().unwrap()
    });
    assert!(matches!(result, Err(ImageError::Cancelled)), "{result:?}");
    assert_eq!(fs::read_dir(place.top.path().join("images")).unwrap().count(), 0);
}

#[test]
fn a_copy_never_takes_the_journals_reserve() {
    // Another file system than the store's, so that the copy cannot be a reflink, which needs no space.
    let elsewhere = TempDir::new_in("/dev/shm").unwrap();
    fs::write(elsewhere.path().join("root.img"), vec![7; 2 << 20]).unwrap();
    for (free, fits) in [(RESERVE + (2 << 20), true), (RESERVE + (2 << 20) - 1, false), (0, false)]
    {
        let top = TempDir::new().unwrap();
        let images = top.path().join("images");
        let dirs = vec![elsewhere.path().to_owned()];
        let store =
            Store::new(images.clone(), dirs, budget(free, Limits::default()), Tool::default());
        let parts = disk(Source::Below("root.img".into()), DiskFormat::Raw);
        match store.import(Uuid::from_u128(1), parts, &Cancel::default()) {
            Ok(_) => assert!(fits, "{free}"),
            Err(error) => {
                assert!(!fits, "{free}: {error}");
                assert_eq!(Refusal::from(error).code, Code::InsufficientResources);
                assert_eq!(fs::read_dir(images).unwrap().count(), 0);
            }
        }
    }
}

#[test]
fn removing_and_sweeping_can_be_done_twice_and_spare_what_is_known() {
    let place = Dirs::new();
    place.store.sweep(&BTreeSet::new()).unwrap();
    place.put("root.img", b"abc");
    let [known, unknown] = [Uuid::from_u128(1), Uuid::from_u128(2)];
    for id in [known, unknown] {
        let parts = disk(Source::Below("root.img".into()), DiskFormat::Raw);
        place.store.import(id, parts, &Cancel::default()).unwrap();
    }
    let images = place.top.path().join("images");
    fs::create_dir(images.join(format!("unfinished-{}", Uuid::from_u128(3)))).unwrap();
    fs::write(images.join("README"), b"somebody else's").unwrap();
    for _ in 0..2 {
        place.store.sweep(&BTreeSet::from([known])).unwrap();
        assert!(place.store.paths(known).disk.exists() && images.join("README").exists());
        assert_eq!(fs::read_dir(&images).unwrap().count(), 2);
    }
    for _ in 0..2 {
        place.store.remove(known).unwrap();
        assert!(!place.store.paths(known).disk.exists());
    }
}

/// The real tool's images: each with its options, and what is to be found wrong with it.
#[test]
fn images_made_by_qemu_img_are_imported() {
    if std::process::Command::new("qemu-img").arg("--version").output().is_err() {
        eprintln!("SKIPPED: needs qemu-utils");
        return;
    }
    let place = Dirs::new();
    let make = |name: &str, options: &[&str]| {
        let mut create = std::process::Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2"]).args(options).arg(name).arg("3G");
        assert!(create.current_dir(place.imports()).status().unwrap().success(), "{name}");
    };
    place.put("base.img", &[0; 512]);
    make("plain", &[]);
    make("old", &["-o", "compat=0.10"]);
    make("zstd", &["-o", "compression_type=zstd,extended_l2=on"]);
    make("backed", &["-b", "base.img", "-F", "raw"]);
    make("external", &["-o", "data_file=data,data_file_raw=on"]);
    // Not LUKS: making its header measures the processor, and qemu-img gives up where the clock of processor time is coarse
    // ("Unable to get accurate CPU usage"). LUKS is the second method in the same field, which the header's own tests read.
    make(
        "secret",
        &["--object", "secret,id=s,data=x", "-o", "encrypt.format=aes,encrypt.key-secret=s"],
    );
    for name in ["plain", "old", "zstd"] {
        let imported = place.import_disk(name, DiskFormat::Qcow2).unwrap();
        assert_eq!(imported.disk_virtual_size, Some(3 << 30), "{name}");
    }
    for (name, problem) in
        [("backed", "backing file"), ("external", "external data file"), ("secret", "encrypted")]
    {
        let error = place.import_disk(name, DiskFormat::Qcow2).unwrap_err().to_string();
        assert!(error.contains(problem), "{name}: {error}");
    }
}
