//! The file of a kernel: bzImage or ELF with a PVH note.

use std::io;
use std::os::unix::fs::FileExt;

use image::kernel::check;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "kernel",
    reads: "the file of a kernel: bzImage or ELF",
    read,
    words: &[
        "\u{7f}ELF\u{2}\u{1}\u{1}",
        "\u{7f}ELF\u{1}\u{1}\u{1}",
        "HdrS",
        "U",
        "Xen\u{0}",
        "\u{12}\u{0}\u{0}\u{0}",
        "\u{4}\u{0}\u{0}\u{0}",
    ],
    longest: 4096,
};

/// A file in memory, which counts how often it is read.
struct Bytes<'a>(&'a [u8], std::cell::Cell<u32>);

impl FileExt for Bytes<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.set(self.1.get() + 1);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(offset..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        let to = buffer.get_mut(..count).unwrap_or_default();
        to.copy_from_slice(rest.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn read(bytes: &[u8]) -> Kind {
    let file = Bytes(bytes, std::cell::Cell::new(0));
    let checked = check(&file);
    // 64 segments with notes of 12 bytes each in 64 KiB, and four reads each.
    assert!(
        file.1.get() < 64 * (8 + (1 << 16) / 12 * 4),
        "the file is read {} times",
        file.1.get()
    );
    if checked.is_ok() {
        let has = |what: &[u8]| bytes.windows(what.len()).any(|part| part == what);
        assert!(has(b"HdrS") || (has(b"\x7fELF") && has(b"Xen\0")), "accepted without reason");
    }
    Kind::of_result(&checked.map(|()| "accepted"))
}
