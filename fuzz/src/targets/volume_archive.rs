//! The archive of which a volume is made.

use std::path::Path;
use std::sync::Arc;

use image::unpack::{Bounds, unpack};
use image::{Budget, Cancel, Limits};
use model::{Disk, HostError};

use super::archive::zipped;
use super::scratch;
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "volume_archive",
    reads: "the tar archive of a new volume",
    read,
    words: &[
        "ustar\u{0}00",
        "ustar  \u{0}",
        "././@LongLink",
        "../",
        "../outside",
        "/etc/passwd",
        "0000644\u{0}",
        "00000000000\u{0}",
        "77777777777\u{0}",
        "path=",
        "linkpath=",
        "size=",
        "30 path=../outside",
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

/// Unpacks it: nothing beside the directory is made or changed.
fn read(bytes: &[u8]) -> Kind {
    let Ok(dir) = scratch::dir() else { return Kind::of("no directory") };
    let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
    if std::fs::write(&outside, "untouched").and_then(|()| std::fs::create_dir(&tree)).is_err() {
        return Kind::of("no directory");
    }
    let budget = Budget::new(Arc::new(Endless), Limits::default());
    let mut allowance = budget.allowance(dir.path());
    let cancel = Cancel::default();
    let mut bounds =
        Bounds { most: 1 << 20, allowance: &mut allowance, cancel: &cancel, marks: None };
    let result = unpack(zipped(bytes).as_slice(), &tree, &mut bounds);
    let entries = std::fs::read_dir(dir.path()).map_or(0, Iterator::count);
    assert_eq!(entries, 2, "something is beside the directory");
    let text = std::fs::read_to_string(&outside).unwrap_or_default();
    assert_eq!(text, "untouched", "a file beside the directory was changed");
    Kind::of_result(&result.map(|_| "unpacked"))
}
