//! Archives of strangers.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use model::{Disk, HostError};
use tar::Builder;
use tempfile::TempDir;

use super::*;
use crate::{Budget, Limits};

struct Free;

impl Disk for Free {
    fn free_space(&self, _: &Path) -> Result<u64, HostError> {
        Ok(1 << 40)
    }

    fn write_out(&self, _: &Path) {}
}

/// An entry: its type, path, target, mode and data.
type One<'a> = (EntryType, &'a str, &'a str, u32, &'a [u8]);

fn archive(entries: &[One<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (kind, path, target, mode, data) in entries {
        let mut header = Header::new_gnu();
        // What the library would refuse to write.
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        let link = &mut header.as_old_mut().linkname;
        link[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(1000);
        header.set_gid(100);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, *data).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn unpacked_within(entries: &[One<'_>], most: u64) -> (TempDir, Result<u64, ImageError>) {
    let top = TempDir::new().unwrap();
    fs::write(top.path().join("outside"), "untouched").unwrap();
    let into = top.path().join("tree");
    fs::create_dir(&into).unwrap();
    let budget = Budget::new(Arc::new(Free), Limits::default());
    let mut allowance = budget.allowance(top.path());
    let cancel = Cancel::default();
    let mut bounds = Bounds { most, allowance: &mut allowance, cancel: &cancel, marks: None };
    let result = unpack(archive(entries).as_slice(), &into, &mut bounds);
    assert_eq!(fs::read_to_string(top.path().join("outside")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 2, "nothing is made beside it");
    (top, result)
}

fn unpacked(entries: &[One<'_>]) -> (TempDir, Result<u64, ImageError>) {
    unpacked_within(entries, 1 << 20)
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYMLINK: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;

#[test]
fn directories_that_no_entry_describes_are_counted() {
    let deep = [(FILE, "a/b/c/d/e/f", "", 0o644, b"".as_slice())];
    unpacked_within(&deep, 6 * ENTRY).1.unwrap();
    let refused = unpacked_within(&deep, 6 * ENTRY - 1).1;
    assert!(matches!(refused, Err(ImageError::ArchiveTooLarge { .. })), "{refused:?}");
}

#[test]
fn a_sparse_file_whose_data_begins_with_a_map_is_refused() {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    builder.append_pax_extensions([("GNU.sparse.major", b"1".as_slice())]).unwrap();
    let mut header = Header::new_ustar();
    header.set_path("GNUSparseFile.1/sparse").unwrap();
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, b"".as_slice()).unwrap();
    let archive = builder.into_inner().unwrap().finish().unwrap();
    let top = TempDir::new().unwrap();
    let budget = Budget::new(Arc::new(Free), Limits::default());
    let mut allowance = budget.allowance(top.path());
    let cancel = Cancel::default();
    let mut bounds =
        Bounds { most: 1 << 20, allowance: &mut allowance, cancel: &cancel, marks: None };
    let error = unpack(archive.as_slice(), top.path(), &mut bounds).unwrap_err().to_string();
    assert!(error.contains("sparse") && error.contains("--format=gnu"), "{error}");
}

#[test]
fn files_keep_their_owners_modes_and_times() {
    let (top, result) = unpacked(&[
        (DIR, "./", "", 0o755, b""),
        (DIR, "./closed", "", 0o555, b""),
        (FILE, "./closed/file", "", 0o4640, b"data"),
        (SYMLINK, "link", "/etc/passwd", 0o777, b""),
        (LINK, "hard", "closed/file", 0o640, b""),
        (FILE, "/absolute/deep/file", "", 0o600, b"x"),
        (FILE, "twice", "", 0o600, b"first"),
        (FILE, "twice", "", 0o600, b"second"),
    ]);
    result.unwrap();
    let at = |path: &str| top.path().join("tree").join(path);
    let file = fs::metadata(at("closed/file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime()), (0o4640, 1_000_000_000));
    if rustix::process::geteuid().is_root() {
        assert_eq!((file.uid(), file.gid()), (1000, 100));
    }
    assert_eq!(fs::metadata(at("closed")).unwrap().mode() & 0o7777, 0o555);
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(at("hard")).unwrap().ino(), file.ino());
    assert_eq!(fs::read(at("absolute/deep/file")).unwrap(), b"x");
    assert_eq!(fs::read(at("twice")).unwrap(), b"second");
}

#[test]
fn a_directory_has_a_limited_number_of_names() {
    let top = Top {
        dir: openat(CWD, ".", directory(), Mode::empty()).unwrap(),
        implied: Cell::new(0),
        names: RefCell::default(),
    };
    for _ in 0..MOST_NAMES {
        top.count(Path::new("a")).unwrap();
    }
    let error = top.count(Path::new("a")).unwrap_err().to_string();
    assert!(error.contains("more than 65536 names"), "{error}");
    top.count(Path::new("b")).unwrap();
    // Directories that no entry describes are names too.
    let (_top, result) = unpacked(&[(FILE, "x/y", "", 0o644, b""), (FILE, "z", "", 0o644, b"")]);
    result.unwrap();
}

#[test]
fn no_path_leaves_the_directory() {
    let attacks: [&[One<'_>]; 6] = [
        &[(FILE, "../outside", "", 0o600, b"x")],
        &[(FILE, "a/../../outside", "", 0o600, b"x")],
        &[(SYMLINK, "up", "..", 0o777, b""), (FILE, "up/outside", "", 0o600, b"x")],
        &[(SYMLINK, "up", "../outside", 0o777, b""), (LINK, "new", "up/x", 0o600, b"")],
        &[(LINK, "stolen", "../outside", 0o600, b"")],
        &[(SYMLINK, "up", "..", 0o777, b""), (LINK, "stolen", "up/outside", 0o600, b"")],
    ];
    for attack in attacks {
        let (_top, result) = unpacked(attack);
        assert!(matches!(result, Err(ImageError::Archive { .. })), "{attack:?}: {result:?}");
    }
    // A link in the place of a file is replaced, not written through.
    let (top, result) =
        unpacked(&[(SYMLINK, "file", "../outside", 0o777, b""), (FILE, "file", "", 0o600, b"x")]);
    result.unwrap();
    assert!(top.path().join("tree/file").symlink_metadata().unwrap().is_file());
    // An absolute path is one below the directory.
    let (top, result) = unpacked(&[(FILE, "/outside", "", 0o600, b"x")]);
    result.unwrap();
    assert!(top.path().join("tree/outside").exists());
}

#[test]
fn what_is_too_large_or_no_file_is_refused() {
    let zeros = vec![0; 2 << 20];
    let (_top, result) = unpacked(&[(FILE, "bomb", "", 0o600, &zeros)]);
    assert!(matches!(result, Err(ImageError::ArchiveTooLarge { .. })), "{result:?}");
    let names: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let many: Vec<One<'_>> =
        names.iter().map(|name| (DIR, name.as_str(), "", 0o755, &b""[..])).collect();
    assert!(matches!(unpacked(&many).1, Err(ImageError::ArchiveTooLarge { .. })));
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let (_top, result) = unpacked(&[(kind, "node", "", 0o600, b"")]);
        assert!(result.unwrap_err().to_string().contains("node is a"), "{kind:?}");
    }
}

#[test]
fn what_is_no_archive_is_told() {
    let dir = TempDir::new().unwrap();
    let budget = Budget::new(Arc::new(Free), Limits::default());
    let mut allowance = budget.allowance(dir.path());
    let whole = archive(&[(FILE, "a", "", 0o600, &[7; 5000])]);
    for bytes in [&b"x"[..], b"", &whole[..whole.len() / 2]] {
        let cancel = Cancel::default();
        let mut bounds =
            Bounds { most: 1 << 20, allowance: &mut allowance, cancel: &cancel, marks: None };
        let error = unpack(bytes, dir.path(), &mut bounds).unwrap_err();
        assert!(error.to_string().contains("not a complete .tar.gz"), "{error}");
    }
}
