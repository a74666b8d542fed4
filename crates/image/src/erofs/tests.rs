use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use model::{Disk, HostError};
use proptest::prelude::*;

use super::*;
use crate::layers::{Archive, Layer, build, digest};
use crate::{Budget, Cancel, Limits};

/// A disk with space enough.
struct Large;

impl Disk for Large {
    fn free_space(&self, _: &Path) -> Result<u64, HostError> {
        Ok(1 << 40)
    }

    fn write_out(&self, _: &Path) {}
}

pub fn budget() -> Arc<Budget> {
    Budget::new(Arc::new(Large), Limits::default())
}

/// Builds an image of archives.
pub fn image_of(dir: &Path, archives: &[Vec<u8>]) -> Result<std::path::PathBuf, crate::ImageError> {
    let budget = budget();
    let layers = archives.iter().enumerate().map(|(number, bytes)| {
        let path = dir.join(format!("layer{number}"));
        std::fs::write(&path, bytes).unwrap();
        Layer { digest: digest(bytes), file: File::open(path).unwrap(), diff_id: digest(bytes) }
    });
    let to = dir.join("image.erofs");
    let _ = std::fs::remove_file(&to);
    let allowance = || budget.allowance(dir);
    build(layers.collect(), &to, &dir.join("scratch"), allowance, &Cancel::default())?;
    Ok(to)
}

fn fsck(path: &Path) {
    let ran = Command::new("fsck.erofs").args(["-d3", "--extract"]).arg(path).output();
    let Ok(ran) = ran else {
        println!("SKIPPED: fsck.erofs is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && said.contains("No errors found"), "{out}{said}");
}

/// What is in an image by path: kind, mode, owner, content.
fn listed(image: &Image) -> BTreeMap<String, (FoundKind, u16, u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut rest = vec![(String::new(), image.root().unwrap())];
    while let Some((path, found)) = rest.pop() {
        let mut content = Vec::new();
        match found.kind {
            FoundKind::Directory => {
                for (name, nid) in image.list(&found).unwrap() {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    rest.push((format!("{path}/{name}"), image.get(nid).unwrap()));
                }
            }
            FoundKind::File | FoundKind::Symlink => content = image.whole(&found).unwrap(),
            _ => content = found.device.to_le_bytes().to_vec(),
        }
        all.insert(path, (found.kind, found.mode, found.uid, content));
    }
    all
}

#[derive(Clone, Debug)]
enum Made {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    Char,
    Fifo,
}

fn made() -> impl Strategy<Value = Made> {
    let sizes =
        prop_oneof![Just(0usize), 1..100usize, 4000..4100usize, 4096..4097usize, 8000..20_000usize];
    prop_oneof![
        (sizes, any::<u8>()).prop_map(|(size, seed)| {
            let byte =
                |at: usize| (at as u8).wrapping_mul(seed).wrapping_add(at.div_ceil(4096) as u8);
            Made::File((0..size).map(byte).collect())
        }),
        Just(Made::Directory),
        "/?[a-z]{1,9}(/[a-z]{1,60}){0,4}".prop_map(Made::Symlink),
        Just(Made::Char),
        Just(Made::Fifo),
    ]
}

fn archive(entries: &BTreeMap<String, (Made, u16, u32)>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, (made, mode, uid)) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode((*mode).into());
        header.set_uid((*uid).into());
        header.set_gid(7);
        header.set_mtime(1_700_000_000);
        let (kind, content) = match made {
            Made::File(content) => (tar::EntryType::Regular, content.as_slice()),
            Made::Directory => (tar::EntryType::Directory, [].as_slice()),
            Made::Symlink(_) => (tar::EntryType::Symlink, [].as_slice()),
            Made::Char => (tar::EntryType::Char, [].as_slice()),
            Made::Fifo => (tar::EntryType::Fifo, [].as_slice()),
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        match made {
            Made::Symlink(target) => builder.append_link(&mut header, path, target).unwrap(),
            Made::Char => {
                header.set_device_major(259).unwrap();
                header.set_device_minor(70_000).unwrap();
                builder.append_data(&mut header, path, content).unwrap();
            }
            _ => builder.append_data(&mut header, path, content).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any tree reads back as it was, and the same tree gives the same bytes.
    #[test]
    fn any_tree_reads_back(
        entries in prop::collection::btree_map(
            "([a-z]{1,3}/){0,3}[a-zA-Z0-9 .!_-]{1,120}x",
            (made(), 0..0o10_000u16, any::<u32>().prop_map(|uid| uid.min(u32::MAX - 1))),
            0..80
        )
    ) {
        let dir = tempfile::tempdir().unwrap();
        let bytes = archive(&entries);
        let path = image_of(dir.path(), std::slice::from_ref(&bytes)).unwrap();
        fsck(&path);
        let first = std::fs::read(&path).unwrap();
        let found = listed(&Image::open(File::open(&path).unwrap()).unwrap());
        for (path, (made, mode, uid)) in &entries {
            let (kind, found_mode, found_uid, content) = &found[&format!("/{path}")];
            let expected = match made {
                Made::File(content) => (FoundKind::File, *mode, content.clone()),
                Made::Directory => (FoundKind::Directory, *mode, Vec::new()),
                Made::Symlink(target) => (FoundKind::Symlink, 0o777, target.clone().into_bytes()),
                Made::Char => {
                    let device: u32 = (70_000 & 0xff) | (259 << 8) | ((70_000 & !0xff) << 12);
                    (FoundKind::Char, *mode, device.to_le_bytes().to_vec())
                }
                Made::Fifo => (FoundKind::Fifo, *mode, 0u32.to_le_bytes().to_vec()),
            };
            prop_assert_eq!((*kind, *found_mode, content.clone()), expected);
            prop_assert_eq!(found_uid, uid);
        }
        let again = image_of(dir.path(), &[bytes]).unwrap();
        prop_assert!(first == std::fs::read(again).unwrap(), "not deterministic");
    }

    /// No archive makes it panic, and what it accepts is an image that fsck accepts.
    #[test]
    fn no_archive_makes_it_panic(
        at in prop::collection::vec((0..4000usize, any::<u8>()), 1..20)
    ) {
        let mut entries = BTreeMap::new();
        entries.insert("a/b".to_owned(), (Made::File(vec![1; 700]), 0o644, 0));
        entries.insert("a/c".to_owned(), (Made::Symlink("b".to_owned()), 0o644, 0));
        entries.insert("d".to_owned(), (Made::Char, 0o644, 0));
        let mut bytes = archive(&entries);
        for (at, byte) in at {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let mut archive = Archive::new(bytes.as_slice());
        while let Ok(Some(_)) = archive.next() {}
        let dir = tempfile::tempdir().unwrap();
        if let Ok(path) = image_of(dir.path(), &[bytes]) {
            fsck(&path);
        }
    }
}

#[test]
fn a_directory_of_many_names_is_found_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = BTreeMap::new();
    for number in 0..3000 {
        let made = Made::File(format!("{number}").into_bytes());
        entries.insert(format!("many/name-{number}"), (made, 0o600, 5));
    }
    let path = image_of(dir.path(), &[archive(&entries)]).unwrap();
    fsck(&path);
    let image = Image::open(File::open(path).unwrap()).unwrap();
    for number in [0, 1, 1234, 2999] {
        let found = image.find(format!("/many/name-{number}").as_bytes()).unwrap().unwrap();
        assert_eq!(image.whole(&found).unwrap(), format!("{number}").as_bytes());
    }
    assert_eq!(image.find(b"many/name-3000").unwrap(), None);
}

/// The kernel mounts it and shows the same: where it may be tried.
#[test]
fn the_kernel_mounts_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = BTreeMap::new();
    for number in 0..500 {
        let made = Made::File(vec![number as u8; number * 37]);
        entries.insert(format!("many/name-{number}"), (made, 0o640, 5));
    }
    entries.insert("link".to_owned(), (Made::Symlink("many/name-3".to_owned()), 0o777, 9));
    entries.insert("null".to_owned(), (Made::Char, 0o666, 9));
    let path = image_of(dir.path(), &[archive(&entries)]).unwrap();
    let at = dir.path().join("at");
    std::fs::create_dir(&at).unwrap();
    let mut command = Command::new("mount");
    command.args(["-t", "erofs", "-o", "ro"]).arg(&path).arg(&at);
    let ran = command.output().unwrap();
    if !ran.status.success() {
        println!("SKIPPED: {}", String::from_utf8_lossy(&ran.stderr));
        return;
    }
    let same = std::panic::catch_unwind(|| {
        for number in 0..500 {
            let found = std::fs::read(at.join(format!("many/name-{number}"))).unwrap();
            assert_eq!(found, vec![number as u8; number * 37]);
        }
        assert_eq!(std::fs::read_dir(at.join("many")).unwrap().count(), 500);
        assert_eq!(std::fs::read(at.join("link")).unwrap(), vec![3; 111]);
        use std::os::unix::fs::MetadataExt;
        let device = std::fs::metadata(at.join("null")).unwrap().rdev();
        assert_eq!((rustix::fs::major(device), rustix::fs::minor(device)), (259, 70_000));
    });
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    same.unwrap();
}
