use std::fs::File;
use std::path::Path;

use super::*;
use crate::erofs::tests::image_of;
use crate::erofs::{Found, FoundKind, Image, xattrs};

/// An archive, entry by entry, in the order of the calls.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// A header with its data.
    fn raw(mut self, kind: u8, path: &str, link: &str, data: &[u8], size: u64) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        // As it is: the library refuses `..`.
        let name = &mut header.as_gnu_mut().unwrap().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        let name = &mut header.as_gnu_mut().unwrap().linkname;
        name[..link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(0o644);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_mtime(1_600_000_000);
        header.set_size(size);
        if kind == b'3' {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &str) -> Self {
        self.raw(b'0', path, "", data.as_bytes(), data.len() as u64)
    }

    pub fn dir(self, path: &str) -> Self {
        self.raw(b'5', path, "", b"", 0)
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(b'2', path, target, b"", 0)
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.raw(b'1', path, target, b"", 0)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let size = data.len() as u64;
        self.raw(b'x', "pax", "", &data, size)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

struct Built {
    _dir: tempfile::TempDir,
    image: Image,
}

fn built(layers: Vec<Tar>) -> Result<Built, LayerProblem> {
    let dir = tempfile::tempdir().unwrap();
    let layers: Vec<Vec<u8>> = layers.into_iter().map(Tar::end).collect();
    match image_of(dir.path(), &layers) {
        Ok(path) => {
            let image = Image::open(File::open(path).unwrap()).unwrap();
            Ok(Built { _dir: dir, image })
        }
        Err(ImageError::Container(error)) => {
            assert!(!dir.path().join("image.erofs").exists(), "a half image is left");
            assert!(!dir.path().join("scratch").exists(), "the scratch file is left");
            match *error {
                ContainerError::Layer { problem, .. } => Err(problem),
                error => panic!("{error}"),
            }
        }
        Err(error) => panic!("{error}"),
    }
}

impl Built {
    fn found(&self, path: &str) -> Option<Found> {
        // Each directory is a real one: links are not followed.
        let mut at = self.image.root().unwrap();
        for part in path.split('/') {
            let names = self.image.list(&at).unwrap();
            let (_, nid) = names.iter().find(|(name, _)| name == part.as_bytes())?;
            at = self.image.get(*nid).unwrap();
        }
        Some(at)
    }

    fn text(&self, path: &str) -> Option<String> {
        let content = self.image.whole(&self.found(path)?).unwrap();
        Some(String::from_utf8(content).unwrap())
    }
}

#[test]
fn a_whiteout_hides_lower_layers_and_nothing_of_its_own() {
    let lower = Tar::default().dir("d").file("d/a", "1").file("d/b", "1").file("e/x/y", "1");
    // The whiteouts come last: they hide nothing of their own layer.
    let upper =
        Tar::default().file("d/c", "2").file("d/b", "2").file("d/.wh.a", "").file("d/.wh.b", "");
    let top = Tar::default().file(".wh.e", "").file("d/.wh.absent", "").file("z/.wh.absent", "");
    let built = built(vec![lower, upper, top]).unwrap();
    assert_eq!(built.text("d/a"), None);
    assert_eq!(built.text("d/b").as_deref(), Some("2"));
    assert_eq!(built.text("d/c").as_deref(), Some("2"));
    assert_eq!(built.found("e"), None);
    assert_eq!(built.found("z"), None, "a whiteout makes nothing");
}

#[test]
fn an_opaque_directory_hides_all_of_lower_layers() {
    let lower = Tar::default().file("d/a", "1").file("d/e/b", "1").file("d/e/c", "1");
    let upper = Tar::default()
        .file("d/e/n", "2")
        .dir("d")
        .file("d/.wh..wh..opq", "")
        .file("d/.wh..wh.plnk", "")
        .file("d/x", "2");
    let built = built(vec![lower, upper]).unwrap();
    let names = built.image.list(&built.found("d").unwrap()).unwrap();
    let names: Vec<_> = names.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(names, [b"e".as_slice(), b"x"]);
    assert_eq!(built.text("d/e/n").as_deref(), Some("2"));
    assert_eq!(built.found("d/e/b"), None);
}

#[test]
fn hard_links_share_an_inode_also_over_layers() {
    let lower = Tar::default().file("a", "content").link("b", "a").symlink("s", "a").link("t", "s");
    let upper = Tar::default().link("c", "/b").file("a", "new");
    let built = built(vec![lower, upper]).unwrap();
    let (b, c) = (built.found("b").unwrap(), built.found("c").unwrap());
    assert_eq!((b.nid, b.links), (c.nid, 2));
    assert_eq!(built.text("b").as_deref(), Some("content"));
    assert_eq!(built.text("a").as_deref(), Some("new"));
    assert_eq!(built.found("t").unwrap().kind, FoundKind::Symlink);
}

#[test]
fn kinds_replace_each_other() {
    let lower = Tar::default().file("d/x/y", "1").file("f", "1").symlink("l", "d");
    let upper = Tar::default().file("d", "file").file("f/in", "2").file("l/in", "2");
    let built = built(vec![lower, upper]).unwrap();
    assert_eq!(built.text("d").as_deref(), Some("file"));
    assert_eq!(built.text("f/in").as_deref(), Some("2"));
    // A link of a lower layer is replaced, as by overlay mounts of layers.
    assert_eq!(built.text("l/in").as_deref(), Some("2"));
}

#[test]
fn links_of_the_same_layer_are_followed_within_the_image() {
    let layer = Tar::default()
        .dir("usr/lib")
        .symlink("lib", "/usr/lib")
        .symlink("up", "../../../usr/lib")
        .file("lib/one", "1")
        .file("up/two", "2");
    let built = built(vec![layer]).unwrap();
    assert_eq!(built.text("usr/lib/one").as_deref(), Some("1"));
    assert_eq!(built.text("usr/lib/two").as_deref(), Some("2"));
    let circle = Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", "");
    let problem = self::built(vec![circle]).err().unwrap();
    assert!(matches!(problem, LayerProblem::TooManyLinks { .. }), "{problem}");
}

#[test]
fn no_name_leaves_the_image() {
    for path in ["../evil", "a/../../evil", "/../evil", ".."] {
        let problem = built(vec![Tar::default().file(path, "x")]).err().unwrap();
        assert!(matches!(problem, LayerProblem::Outside { .. }), "{path}: {problem}");
    }
    let problem = built(vec![Tar::default().link("a", "../../etc/passwd")]).err().unwrap();
    assert!(matches!(problem, LayerProblem::Outside { .. }), "{problem}");
    let problem = built(vec![Tar::default().link("a", "/etc/passwd")]).err().unwrap();
    assert!(matches!(problem, LayerProblem::BadLink { .. }), "{problem}");
    let absolute = built(vec![Tar::default().file("//evil//x", "x")]).unwrap();
    assert_eq!(absolute.text("evil/x").as_deref(), Some("x"));
    assert!(!Path::new("/evil").exists());
    let problem = built(vec![Tar::default().file("./", "")]);
    assert!(problem.is_ok(), "a name that ends with a slash is a directory");
    let problem = built(vec![Tar::default().symlink(".", "x")]).err().unwrap();
    assert_eq!(problem, LayerProblem::RootReplaced);
}

#[test]
fn attributes_are_kept() {
    let capability: &[u8] = b"\x01\0\0\x02\n\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let long = format!("{}/{}", "d".repeat(200), "n".repeat(250));
    let layer = Tar::default()
        .pax(&[
            ("path", long.as_bytes()),
            ("uid", b"3000000"),
            ("mtime", b"1700000000.123456789"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"a=b\nc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.com.apple.provenance", b"y"),
        ])
        .file("short", "data")
        .raw(b'3', "null", "", b"", 0)
        .raw(b'6', "fifo", "", b"", 0);
    let built = built(vec![layer]).unwrap();
    let found = built.found(&long).unwrap();
    assert_eq!((found.uid, found.gid, found.mode), (3_000_000, 1001, 0o644));
    assert_eq!(found.modified, (1_700_000_000, 123_456_789));
    let expected = [
        (b"security.capability".to_vec(), capability.to_vec()),
        (b"user.note".to_vec(), b"a=b\nc".to_vec()),
    ];
    assert_eq!(xattrs::decode(&found.xattrs), expected);
    assert_eq!(built.text(&long).as_deref(), Some("data"));
    let null = built.found("null").unwrap();
    assert_eq!((null.kind, null.device), (FoundKind::Char, 0x103));
    assert_eq!(built.found("fifo").unwrap().kind, FoundKind::Fifo);
}

#[test]
fn sparse_files_keep_their_holes() {
    // Form 1.0 of GNU tar: the map, then the data.
    let mut data = b"2\n1048576\n5\n3145723\n5\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"helloworld");
    let size = data.len() as u64;
    let of_pax = Tar::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"3145728"),
        ])
        .raw(b'0', "GNUSparseFile.0/sparse", "", &data, size)
        .file("after", "1");
    let image = built(vec![of_pax]).unwrap();
    let found = image.found("sparse").unwrap();
    assert_eq!(found.size, 3 << 20);
    let content = image.image.whole(&found).unwrap();
    assert_eq!(&content[1 << 20..(1 << 20) + 5], b"hello");
    assert_eq!(&content[(3 << 20) - 5..], b"world");
    assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 10);
    assert_eq!(image.text("after").as_deref(), Some("1"));
    for map in ["0,5,3,5", "0,5,20,5", "0,9", "1", "18446744073709551615,10"] {
        let broken = Tar::default()
            .pax(&[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"20")])
            .file("sparse", "helloworld");
        assert_eq!(built(vec![broken]).err().unwrap(), LayerProblem::BadSparse, "{map}");
    }
}

#[test]
fn bombs_end_with_a_code() {
    let bomb = Tar::default()
        .pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"9000000000000000000")])
        .file("bomb", "x");
    let problem = built(vec![bomb]).err().unwrap();
    assert!(matches!(problem, LayerProblem::TooLarge { .. }), "{problem}");
    let header = Tar::default().raw(b'x', "pax", "", b"", 1 << 40);
    assert_eq!(built(vec![header]).err().unwrap(), LayerProblem::HeaderTooLong);
    let device = Tar::default().raw(b'4', "d", "", b"", 1 << 50).file("after", "1");
    assert_eq!(built(vec![device]).unwrap().text("after").as_deref(), Some("1"));
    let cut = Tar::default().raw(b'0', "f", "", b"abc", 1 << 20);
    assert_eq!(built(vec![cut]).err().unwrap(), LayerProblem::Truncated);
}

#[test]
fn a_layer_of_another_content_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer");
    std::fs::write(&path, Tar::default().file("a", "1").end()).unwrap();
    let file = File::open(&path).unwrap();
    let diff_id = digest(b"another");
    let layer = Layer { digest: digest(b""), file, diff_id: diff_id.clone() };
    let (to, scratch) = (dir.path().join("to"), dir.path().join("scratch"));
    let budget = crate::erofs::tests::budget();
    let allowance = || budget.allowance(dir.path());
    let error = build(vec![layer], &to, &scratch, allowance, &Cancel::default()).unwrap_err();
    assert!(error.to_string().contains(&diff_id), "{error}");
    assert!(!to.exists() && !scratch.exists());
}

#[test]
fn the_chain_is_that_of_the_specification() {
    assert_eq!(chain(["sha256:a"]), "sha256:a");
    assert_eq!(chain(["sha256:a", "sha256:b"]), digest(b"sha256:a sha256:b"));
}
