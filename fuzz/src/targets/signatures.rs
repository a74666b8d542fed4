//! The signatures on a block device.

use host::signatures::{find, is_blank};

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "signatures",
    reads: "the signatures of file systems and volume managers on a block device",
    read,
    words: &[
        "\u{53}\u{ef}",
        "XFSB",
        "LABELONE",
        "LVM2 001",
        "SWAPSPACE2",
        "EFI PART",
        "LUKS\u{ba}\u{be}",
        "Intel Raid ISM Cfg Sig.",
        "U\u{aa}",
    ],
    longest: 1 << 17,
};

fn read(bytes: &[u8]) -> Kind {
    let size = bytes.len() as u64;
    // Reading from memory does not fail.
    let found = find(bytes, size, 512).unwrap_or_default();
    let blank = is_blank(bytes, size).unwrap_or_default();
    assert!(!blank || bytes.iter().take(1 << 20).all(|byte| *byte == 0), "{found:?}");
    if bytes.iter().all(|byte| *byte == 0) {
        assert!(found.is_empty(), "zeros are {found:?}");
    }
    let mut once = found.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), found.len(), "{found:?}");
    Kind::of(found.join(", ")).and(usize::from(blank))
}
