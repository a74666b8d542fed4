//! The tar archive in a recording, and walking through its files and links.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use host::{FileKind, LinuxHost};

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "archive",
    reads: "the tar archive of a recording",
    read,
    words: &[
        "ustar\u{0}00",
        "ustar  \u{0}",
        "././@LongLink",
        "../",
        "/etc/passwd",
        "sys/",
        "proc/",
        "0000644\u{0}",
        "00000000000\u{0}",
        "77777777777\u{0}",
        "path=",
        "linkpath=",
        "size=",
        "30 path=sys/",
        "handover/errors",
        "handover/claimed",
        "handover/recording.json",
        "{\"format\":1",
        "5 sys/a\n",
    ],
    longest: 1 << 16,
};

fn read(bytes: &[u8]) -> Kind {
    match LinuxHost::recording(zipped(bytes).as_slice()) {
        Ok(host) => walk(&host),
        Err(error) => Kind::of(error),
    }
}

/// The file of an archive, hardly compressed: for speed.
pub fn zipped(archive: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    // Writing to memory does not fail.
    let written = gzip.write_all(archive).and_then(|()| gzip.finish());
    written.unwrap_or_default()
}

/// Walks through all files: each name is one component, each directory can be listed, and no path leads out or round in a
/// circle.
pub fn walk(host: &LinuxHost) -> Kind {
    let root = host.root();
    let mut ahead = vec![(".".to_owned(), 0)];
    let (mut files, mut failed) = (0, 0);
    while let Some((at, depth)) = ahead.pop() {
        assert!(depth <= 64, "the files are deeper than the limit: {at}");
        let Ok(names) = root.names(&at) else {
            failed += 1;
            continue;
        };
        for name in names {
            assert!(
                !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']),
                "{name:?}"
            );
            let path = format!("{at}/{name}");
            let _ = (root.text(&path), root.dir(&path).map(|dir| dir.names(".")));
            let is_link = root.link(&path).is_ok();
            match root.stat(&path).map(|status| (status.kind, status.size)) {
                Ok((FileKind::Directory, _)) if !is_link => ahead.push((path, depth + 1)),
                Ok((FileKind::File, size)) => {
                    files += 1;
                    if let Ok(bytes) = root.bytes(&path, 1 << 20) {
                        assert_eq!(u64::try_from(bytes.len()), Ok(size), "{path}");
                    }
                }
                Ok(_) => files += 1,
                Err(_) => failed += 1,
            }
        }
    }
    Kind::of("read").and(files).and(failed)
}
