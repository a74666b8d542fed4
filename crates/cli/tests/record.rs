//! `handover record`: its output, and that every command reads the recording.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const HANDOVER: &str = env!("CARGO_BIN_EXE_handover");

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/recordings");
    fixtures.join(format!("{name}.tar.gz"))
}

fn run(place: &Path, arguments: &[&str]) -> Output {
    Command::new(HANDOVER).current_dir(place).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn it_says_what_it_contains() {
    let place = tempfile::tempdir().unwrap();
    let root = fixture("workstation-held");
    let root = root.to_str().unwrap();
    let text = said(&run(place.path(), &["record", "--root", root, "-o", "host.tar.gz"]));
    snapbox::assert_data_eq!(text, snapbox::file!["record/contains.txt"]);
    let file = place.path().join("host.tar.gz");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&file).unwrap();

    let refused = run(place.path(), &["record", "--root", root, "-o", "host.tar.gz"]);
    assert_eq!(refused.status.code(), Some(5), "already_exists");
    let error = String::from_utf8(refused.stderr).unwrap();
    snapbox::assert_data_eq!(error, snapbox::file!["record/refused.txt"]);
    assert_eq!(fs::read(&file).unwrap(), before);
    said(&run(place.path(), &["record", "--force", "--root", root, "-o", "host.tar.gz"]));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing is left behind");

    // The default name contains the date.
    said(&run(place.path(), &["record", "--root", root]));
    let names = fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name());
    let mut names = names.map(|name| name.into_string().unwrap());
    assert!(names.any(|name| name.starts_with("handover-20") && name.ends_with(".tar.gz")));
}

#[test]
fn standard_output_has_nothing_but_the_recording() {
    let place = tempfile::tempdir().unwrap();
    let root = fixture("bare");
    let output = run(place.path(), &["record", "--root", root.to_str().unwrap(), "-o", "-"]);
    assert!(output.stdout.starts_with(&[0x1f, 0x8b]));
    assert!(String::from_utf8(output.stderr).unwrap().contains("contains: "));
}

/// All commands print the same for the recording, its unpacked tree, and a recording of that tree.
#[test]
fn a_recording_is_read_as_a_tree_is() {
    for name in ["workstation", "server-vfs", "workstation-held", "workstation-mounted", "bare"] {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let archive = fs::File::open(fixture(name)).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            // Only root can create device nodes.
            let kind = entry.header().entry_type();
            if !kind.is_character_special() && !kind.is_block_special() {
                entry.unpack_in(&tree).unwrap();
            }
        }
        let again = ["record", "--keep-serials", "--root", "tree", "-o", "again.tar.gz"];
        said(&run(place.path(), &again));
        for command in [&["ls", "--all"][..], &["ls", "--json", "--all"], &["topo"]] {
            let read = |root: &Path| {
                let arguments = [command, &["--root", root.to_str().unwrap()]].concat();
                said(&run(place.path(), &arguments))
            };
            let expected = read(&fixture(name));
            assert_eq!(read(&tree), expected, "{name}: {command:?}");
            assert_eq!(read(&place.path().join("again.tar.gz")), expected, "{name}: {command:?}");
        }
    }
}

#[test]
fn a_damaged_recording_is_refused_with_a_reason() {
    let place = tempfile::tempdir().unwrap();
    let whole = fs::read(fixture("bare")).unwrap();
    fs::write(place.path().join("cut.tar.gz"), &whole[..whole.len() / 2]).unwrap();
    let output = run(place.path(), &["ls", "--root", "cut.tar.gz"]);
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    snapbox::assert_data_eq!(error, snapbox::file!["record/damaged.txt"]);
}

/// A wrong `--root` is an error of input, with its reason; a plain tar archive is read.
#[test]
fn a_wrong_root_is_an_error_of_input_with_the_reason() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(place.path().join(name), bytes).unwrap();
    file("host.tar.xz", b"\xfd7zXZ\0\0\x04");
    file("host.tar.bz2", b"BZh91AY&SY");
    file("host.tar.zst", b"\x28\xb5\x2f\xfd\x04");
    file("notes.txt", b"hello\n");
    file("nothing", b"");
    fs::create_dir_all(place.path().join("empty")).unwrap();
    fs::create_dir_all(place.path().join("arm/sys/devices")).unwrap();
    let wrong = [
        ("missing", "it does not exist"),
        ("host.tar.xz", "compressed with xz; run `xz -d`"),
        ("host.tar.bz2", "compressed with bzip2; run `bzip2 -d`"),
        ("host.tar.zst", "compressed with zstd; run `zstd -d`"),
        ("notes.txt", "it is no tar archive"),
        ("nothing", "an empty file"),
        ("empty", "not the root of a host"),
        ("arm", "no PCI bus"),
    ];
    for (root, why) in wrong {
        for command in [
            &["ls"][..],
            &["topo"],
            &["doctor"],
            &["show", "0000:01:00.0"],
            &["boot-list", "--list"],
        ] {
            let output = run(place.path(), &[command, &["--root", root]].concat());
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{command:?} {root}: {error}");
            assert!(
                error.contains("invalid_request") && error.contains(why),
                "{command:?} {root}: {error}"
            );
            assert!(!error.contains("os error"), "{error}");
        }
    }
    let zipped = fs::read(fixture("workstation-held")).unwrap();
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(zipped.as_slice()).read_to_end(&mut plain).unwrap();
    file("host.tar", &plain);
    let listed = |root: &str| said(&run(place.path(), &["ls", "--all", "--root", root]));
    assert_eq!(listed("host.tar"), listed(fixture("workstation-held").to_str().unwrap()));
}

/// In a copy of a tree, directories can be in the place of links, and files can be missing: no function is dropped.
#[test]
fn a_function_without_a_vendor_is_listed_and_named() {
    let place = tempfile::tempdir().unwrap();
    let function = place.path().join("sys/bus/pci/devices/0000:01:00.0");
    fs::create_dir_all(&function).unwrap();
    for (name, text) in [("device", "0x2684\n"), ("class", "0x030000\n"), ("numa_node", "-1\n")] {
        fs::write(function.join(name), text).unwrap();
    }
    for command in ["ls", "topo"] {
        let output = run(place.path(), &[command, "--root", "."]);
        let (text, notes) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("0000:01:00.0"), "{command}: {text}");
        assert!(
            notes.contains("0000:01:00.0 cannot be identified (no vendor"),
            "{command}: {notes}"
        );
    }
}
