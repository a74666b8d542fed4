//! The file system of a new volume, which a confined program has made of foreign files.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use image::ext4::Marks;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "ext4",
    reads: "the inodes of a new volume's file system",
    read,
    words: &["S\u{ef}", "\u{0}\u{1}", "\u{0}\u{4}"],
    longest: 1 << 15,
};

/// The size of the file system, which may be larger than what it has.
const SIZE: u64 = 1 << 20;

/// Restores modes and groups: doing it again changes nothing, and the size stays.
fn read(bytes: &[u8]) -> Kind {
    let mut marks = Marks::default();
    // No group that is restored is a mark.
    for mode in [0o600, 0o4711] {
        marks.of(mode, 70_000 + mode);
    }
    let made = tempfile::tempfile().and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_len(SIZE.max(bytes.len() as u64))?;
        Ok(file)
    });
    let Ok(file) = made else { return Kind::of("no file") };
    let content = || {
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0).map(|()| bytes).ok()
    };
    let result = marks.restore(&file);
    if result.is_ok() {
        let once = content();
        let again = marks.restore(&file);
        assert!(again.is_ok(), "it is not readable any more");
        assert_eq!(once, content(), "it was changed twice");
    }
    let length = file.metadata().map_or(0, |file| file.len());
    assert_eq!(length, SIZE.max(bytes.len() as u64), "its size was changed");
    Kind::of_result(&result.map(|()| "restored"))
}
