//! Copies between this host and a guest that sends anything: what is kept, and that nothing leaves the destination.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use api::CopyHeader;
use service::local_files::{
    Keep, LocalError, Part, Place, Unpacked, pack, pack_tar, unpack, unpack_tar,
};
use tokio::sync::mpsc;

fn queue(parts: Vec<Part>) -> mpsc::Receiver<Part> {
    let (to, from) = mpsc::channel(parts.len().max(1));
    parts.into_iter().for_each(|part| to.try_send(part).unwrap());
    from
}

fn header(path: &str) -> CopyHeader {
    CopyHeader { path: path.into(), mode: 0o644, mtime: 1_000_000_000, ..CopyHeader::default() }
}

fn file(path: &str, data: &str) -> Vec<Part> {
    let header = CopyHeader { size: data.len() as u64, ..header(path) };
    vec![Part::Header(header), Part::Data(data.as_bytes().to_vec())]
}

fn dir(path: &str, mode: u32) -> Vec<Part> {
    vec![Part::Header(CopyHeader { is_dir: true, mode, ..header(path) })]
}

fn link(path: &str, target: &str) -> Vec<Part> {
    let link_target = target.to_owned();
    vec![Part::Header(CopyHeader { is_symlink: true, link_target, ..header(path) })]
}

fn copy(place: &Place, parts: Vec<Vec<Part>>) -> Result<Unpacked, LocalError> {
    let parts = parts.into_iter().flatten().chain([Part::End]).collect();
    unpack(place, Keep::Modes, &mut queue(parts))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_tree_is_written_with_modes_and_times() {
    let here = tempfile::tempdir().unwrap();
    let place = Place::Below { dir: here.path().into(), name: "tree".into() };
    let set_uid = vec![Part::Header(CopyHeader { mode: 0o4755, ..header("bin/s") })];
    let tree = vec![
        dir("", 0o750),
        dir("closed", 0o500),
        file("closed/f", "12"),
        set_uid,
        link("l", "closed/f"),
    ];
    assert_eq!(copy(&place, tree).unwrap(), Unpacked { entries: 5, bytes: 2 });
    let at = |path: &str| here.path().join("tree").join(path);
    assert_eq!((mode(&at("")), mode(&at("closed")), mode(&at("closed/f"))), (0o750, 0o500, 0o644));
    assert_eq!(mode(&at("bin/s")), 0o755, "the guest makes no set-user-ID file");
    assert_eq!(fs::read_to_string(at("closed/f")).unwrap(), "12");
    assert_eq!(fs::metadata(at("closed/f")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::read_link(at("l")).unwrap(), Path::new("closed/f"));
    // Again, over what is there.
    assert!(copy(&place, vec![dir("", 0o750), file("bin/s", "x"), file("l", "no link")]).is_ok());
    assert_eq!(fs::read_to_string(at("l")).unwrap(), "no link");
    assert_eq!(fs::read_to_string(at("closed/f")).unwrap(), "12");
    let left: Vec<_> = fs::read_dir(at("")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".handover")), "{left:?}");
}

#[test]
fn nothing_is_written_outside_of_the_destination() {
    let all = tempfile::tempdir().unwrap();
    let (outside, here) = (all.path().join("outside"), all.path().join("here"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&here).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    let target = outside.to_str().unwrap();
    let place = Place::Into(here.clone());
    let name = Place::Below { dir: here.clone(), name: "name".into() };
    for (place, wrong) in [
        (&place, file("../x", "bad")),
        (&place, file("/tmp/x", "bad")),
        (&place, file("a/../../x", "bad")),
        (&place, [link("trap", target), file("trap/kept", "bad")].concat_parts()),
        (&place, [link("up", ".."), file("up/outside/kept", "bad")].concat_parts()),
        (&place, [link("dir", target), dir("dir", 0o777)].concat_parts()),
        (&name, [link("", target), file("kept", "bad")].concat_parts()),
        (&name, [link("", target), dir("", 0o777), file("kept", "bad")].concat_parts()),
    ] {
        assert!(copy(place, vec![wrong]).is_err());
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_ne!(mode(&outside), 0o777);
    }
    // A file replaces a link, and does not go through it.
    symlink(outside.join("kept"), here.join("f")).unwrap();
    copy(&place, vec![file("f", "mine")]).unwrap();
    assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(here.join("f")).unwrap(), "mine");
}

trait ConcatParts {
    fn concat_parts(self) -> Vec<Part>;
}

impl<const COUNT: usize> ConcatParts for [Vec<Part>; COUNT] {
    fn concat_parts(self) -> Vec<Part> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn a_file_has_the_size_that_was_said() {
    let here = tempfile::tempdir().unwrap();
    let place = Place::Into(here.path().into());
    let of = |size: u64, data: Vec<Part>| {
        let mut parts = vec![Part::Header(CopyHeader { size, ..header("f") })];
        parts.extend(data);
        copy(&place, vec![parts])
    };
    let data = |bytes: &[u8]| Part::Data(bytes.to_vec());
    assert!(of(3, vec![data(b"1"), data(b"23")]).is_ok());
    for wrong in [vec![data(b"1234")], vec![data(b"1")], vec![data(b"")], vec![]] {
        assert!(of(3, wrong).is_err());
        assert_eq!(fs::read_to_string(here.path().join("f")).unwrap(), "123", "the old one stays");
    }
    assert!(of(0, vec![data(b"1")]).is_err());
    assert!(matches!(unpack(&place, Keep::Modes, &mut queue(vec![])), Err(LocalError::BrokenOff)));
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 1, "no draft is left");
}

/// What is read of this host, and written again.
fn packed(root: &Path, stays: bool) -> Vec<Part> {
    let (to, mut from) = mpsc::channel(64);
    pack(root, false, true, stays, &to).unwrap();
    drop(to);
    std::iter::from_fn(|| from.blocking_recv()).collect()
}

#[test]
fn what_is_packed_can_be_unpacked_also_by_tar() {
    let all = tempfile::tempdir().unwrap();
    let root = all.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("sub/f"), vec![7; 200_000]).unwrap();
    fs::set_permissions(root.join("sub/f"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("/etc", root.join("abs")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let place = |name: &str| Place::Below { dir: all.path().into(), name: name.into() };
    copy_all(&place("copy"), packed(&root, false));
    let mut tar = Vec::new();
    let done = unpack_tar("root", &mut tar, &mut queue(packed(&root, false))).unwrap();
    assert_eq!((done.entries, done.bytes), (4, 200_000));
    let (to, mut from) = mpsc::channel(64);
    let count = pack_tar(tar.as_slice(), false, &to).unwrap().entries;
    drop(to);
    assert_eq!(count, 4);
    copy_all(&place("tarred"), std::iter::from_fn(|| from.blocking_recv()).collect());
    for copied in [all.path().join("copy"), all.path().join("tarred/root")] {
        assert_eq!(fs::read(copied.join("sub/f")).unwrap(), vec![7; 200_000]);
        assert_eq!(mode(&copied.join("sub/f")), 0o640);
        assert_eq!(fs::read_link(copied.join("abs")).unwrap(), Path::new("/etc"));
        assert!(!copied.join("socket").exists());
    }
    let first = packed(&root, true);
    assert!(matches!(first.first(), Some(Part::Header(header)) if !header.path.is_empty()));
}

fn copy_all(place: &Place, parts: Vec<Part>) {
    unpack(place, Keep::Modes, &mut queue(parts)).unwrap();
}

#[test]
fn a_tar_archive_with_what_cannot_be_copied_is_refused() {
    let archive = |kind: tar::EntryType, path: &str, link: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        archive.append(&header, &[][..]).unwrap();
        archive.into_inner().unwrap()
    };
    for (kind, path, link) in [
        (tar::EntryType::Link, "a", "b"),
        (tar::EntryType::Char, "a", ""),
        (tar::EntryType::Regular, "../a", ""),
        (tar::EntryType::Regular, "/etc/a", ""),
    ] {
        let (to, _from) = mpsc::channel(8);
        let packed = pack_tar(archive(kind, path, link).as_slice(), false, &to);
        assert!(matches!(packed, Err(LocalError::Tar { .. })), "{path} {packed:?}");
    }
    let (to, _from) = mpsc::channel(8);
    assert!(pack_tar(&b"no archive"[..], false, &to).is_err());
}

#[test]
fn what_is_only_about_the_archive_or_its_root_is_left_out() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, path: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, path, data).unwrap();
    };
    add(tar::EntryType::XGlobalHeader, "pax_global_header", b"15 comment=abc\n");
    add(tar::EntryType::Directory, "./", b"");
    add(tar::EntryType::Regular, "./f", b"text");
    let archive = archive.into_inner().unwrap();
    let (to, mut from) = mpsc::channel(8);
    assert_eq!(pack_tar(archive.as_slice(), false, &to).unwrap().entries, 1);
    assert!(matches!(from.try_recv(), Ok(Part::Header(header)) if header.path == "f"));
}

/// `tar` must see that something is missing.
#[test]
fn an_archive_of_a_copy_that_broke_off_has_no_end() {
    let mut whole = Vec::new();
    let parts = || file("f", "text");
    let all = parts().into_iter().chain([Part::End]).collect();
    unpack_tar("", &mut whole, &mut queue(all)).unwrap();
    let mut broken = Vec::new();
    assert!(unpack_tar("", &mut broken, &mut queue(parts())).is_err());
    assert!(whole.len() >= broken.len() + 1024, "{} {}", whole.len(), broken.len());
}
