//! Two layers of a container image, merged to a root.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use image::{Budget, Cancel, FoundKind, Layer, Limits, RootImage, build_root, digest};
use model::{Disk, HostError};

use super::scratch;
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "layers",
    reads: "two layers of a container image, each half of the input",
    read,
    words: &[
        "ustar\u{0}00",
        "ustar  \u{0}",
        "././@LongLink",
        "../",
        "../outside",
        ".wh.",
        ".wh..wh..opq",
        "0000644\u{0}",
        "00000000000\u{0}",
        "77777777777\u{0}",
        "path=",
        "linkpath=",
        "size=",
        "30 path=../outside",
        "22 SCHILY.xattr.user.a=",
        "GNU.sparse.major=1",
        "GNU.sparse.map=0,1",
        "GNU.sparse.realsize=4096",
    ],
    longest: 1 << 16,
};

/// A disk that is never full.
struct Endless;

impl Disk for Endless {
    fn free_space(&self, _: &Path) -> Result<u64, HostError> {
        Ok(1 << 40)
    }

    fn write_out(&self, _: &Path) {}
}

/// Merges them: nothing is left but the image, and it reads back.
fn read(bytes: &[u8]) -> Kind {
    let Ok(dir) = scratch::dir() else { return Kind::of("no directory") };
    let (lower, upper) = bytes.split_at(bytes.len() / 2 / 512 * 512);
    let mut layers = Vec::new();
    for (name, bytes) in [("lower", lower), ("upper", upper)] {
        let path = dir.path().join(name);
        let Ok(file) = std::fs::write(&path, bytes).and_then(|()| File::open(&path)) else {
            return Kind::of("no file");
        };
        layers.push(Layer { digest: name.to_owned(), file, diff_id: digest(bytes) });
    }
    let budget = Budget::new(Arc::new(Endless), Limits::default());
    let (to, scratch) = (dir.path().join("root"), dir.path().join("scratch"));
    let allowance = || budget.allowance(dir.path());
    let built = build_root(layers, &to, &scratch, allowance, &Cancel::default());
    assert!(!scratch.exists(), "the scratch file is left");
    #[allow(clippy::panic, reason = "that is what a fuzz target does")]
    match built {
        Ok(_) => {
            let count = File::open(&to).and_then(RootImage::open).and_then(|image| walk(&image));
            let count = count.unwrap_or_else(|error| panic!("the root cannot be read: {error}"));
            Kind::of("a root").and(count)
        }
        Err(error) => {
            assert!(!to.exists(), "half a root is left");
            Kind::of(error)
        }
    }
}

/// Reads all of an image; returns how many names it has.
fn walk(image: &RootImage) -> std::io::Result<usize> {
    let mut rest = vec![image.root()?];
    let mut count = 0;
    while let Some(dir) = rest.pop() {
        let names = image.list(&dir)?;
        assert!(names.is_sorted_by(|one, other| one.0 < other.0), "names are not sorted");
        for (name, nid) in names {
            assert!(!name.is_empty() && !name.contains(&b'/'), "a wrong name");
            assert!(name != b"." && name != b"..", "a wrong name");
            count += 1;
            let found = image.get(nid)?;
            match found.kind {
                FoundKind::Directory => rest.push(found),
                FoundKind::Symlink => drop(image.whole(&found)?),
                FoundKind::File if found.size <= 1 << 20 => drop(image.whole(&found)?),
                _ => {}
            }
        }
    }
    Ok(count)
}
