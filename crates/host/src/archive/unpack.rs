//! Reads a recording. It is untrusted: everything is checked and limited.

use std::io::{self, Read};

use rustix::io::Errno;
use tar::{Archive, EntryType, Header};

use super::entries::{Entry, Kind};
use super::form::{self, Plain};
use super::tree::{Tree, TreeBuilder, Unfit, components};
use super::{CLAIMED, ERRORS, FACTS, FORMAT, Facts};

/// Limits for a recording.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of files.
    pub entries: usize,
    /// Size of the archive after decompression, in bytes.
    pub bytes: u64,
    /// Size of one file, in bytes.
    pub file: u64,
    /// Number of names in a path.
    pub depth: usize,
}

/// A host with 10,000 functions has about 700,000 files below them, each with a header of 512 bytes.
const LIMITS: Limits = Limits { entries: 2_000_000, bytes: 2 << 30, file: 64 << 20, depth: 64 };

/// The longest path, as in the kernel (`PATH_MAX` in include/uapi/linux/limits.h).
const LONGEST_PATH: u64 = 4096;

/// Why a recording is refused.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is not a gzip-compressed tar archive, or it is truncated.
    #[error("not a valid recording: {reason} (after {entries} files)")]
    Archive {
        /// The error of the archive reader.
        reason: String,
        /// The number of files that were read before.
        entries: usize,
    },
    /// It is compressed in another way.
    #[error(
        "not a valid recording: compressed with {with}; run `{by}` on it first (plain archives and those of gzip are read)"
    )]
    Compressed {
        /// The compression.
        with: &'static str,
        /// The program that undoes it.
        by: &'static str,
    },
    /// It is compressed with gzip, and what is in it in another way.
    #[error(
        "not a valid recording: compressed with {with}, and then with gzip; run `gzip -d` and then `{by}` on it first (plain \
         archives and those of gzip are read)"
    )]
    CompressedTwice {
        /// The inner compression.
        with: &'static str,
        /// The program that undoes it.
        by: &'static str,
    },
    /// It is no archive.
    #[error("not a valid recording: it is no tar archive, plain or compressed with gzip")]
    NoArchive,
    /// It has no bytes.
    #[error("not a valid recording: it is an empty file")]
    Empty,
    /// It is too large.
    #[error("too large for a recording: more than {limit} {unit} (at {path})")]
    TooLarge {
        /// The unit of the limit.
        unit: &'static str,
        /// The limit.
        limit: u64,
        /// The path at which the limit was exceeded.
        path: String,
    },
    /// A path or a kind of file that is not allowed in a recording.
    #[error("{path}: {reason}")]
    Invalid {
        /// The path in the archive.
        path: String,
        /// The reason.
        reason: String,
    },
    /// A newer version created it.
    #[error(
        "the recording has format {format}, this version reads up to {FORMAT}; use a newer handover"
    )]
    Newer {
        /// Its format.
        format: u32,
    },
}

/// Reads an archive.
///
/// # Errors
/// If it is damaged or exceeds the limits.
pub fn unpack(archive: impl Read) -> Result<Tree, Damage> {
    unpack_within(archive, LIMITS)
}

/// Reads an archive within limits.
pub fn unpack_within(archive: impl Read, limits: Limits) -> Result<Tree, Damage> {
    // One byte more, so that the limit is not mistaken for the end of the archive.
    let stream = Plain::of(archive).map_err(unfit)?.take(limits.bytes + 1);
    let mut unpacking =
        Unpacking { files: TreeBuilder::default(), limits, names: Names::default() };
    let mut archive = Archive::new(stream);
    let broken =
        |error: io::Error, count| Damage::Archive { reason: error.to_string(), entries: count };
    // Raw: otherwise names of any length would be read into memory.
    for entry in archive.entries().map_err(|e| broken(e, 0))?.raw(true) {
        let read = entry.map_err(|error| broken(error, unpacking.files.entries))?;
        unpacking.entry(read)?;
    }
    if archive.into_inner().limit() == 0 {
        return Err(unpacking.too_large("bytes", limits.bytes, "the end"));
    }
    unpacking.finish()
}

fn unfit(unfit: form::Unfit) -> Damage {
    match unfit {
        form::Unfit::Compressed(with, by) => Damage::Compressed { with, by },
        form::Unfit::Within(with, by) => Damage::CompressedTwice { with, by },
        form::Unfit::Other => Damage::NoArchive,
        form::Unfit::Empty => Damage::Empty,
        form::Unfit::Unreadable(error) => Damage::Archive { reason: error.to_string(), entries: 0 },
    }
}

struct Unpacking {
    files: TreeBuilder,
    limits: Limits,
    names: Names,
}

/// The path and target of the next file from extended headers.
#[derive(Debug, Default)]
struct Names {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl Unpacking {
    fn too_large(&self, unit: &'static str, limit: u64, path: &str) -> Damage {
        Damage::TooLarge { unit, limit, path: path.to_owned() }
    }

    fn entry<R: Read>(&mut self, mut read: tar::Entry<'_, R>) -> Result<(), Damage> {
        let kind = read.header().entry_type();
        let plain = String::from_utf8_lossy(&read.path_bytes()).into_owned();
        match kind {
            EntryType::GNULongName => {
                self.names.path = Some(self.name(&mut read, &plain)?);
                return Ok(());
            }
            EntryType::GNULongLink => {
                self.names.target = Some(self.name(&mut read, &plain)?);
                return Ok(());
            }
            EntryType::XHeader => return self.extended(&mut read, &plain),
            EntryType::XGlobalHeader => return Ok(()),
            _ => {}
        }
        let Names { path, target } = std::mem::take(&mut self.names);
        let path = path.unwrap_or_else(|| read.path_bytes().into_owned());
        let path = self.path(path)?;
        let target = target.or_else(|| read.link_name_bytes().map(|name| name.into_owned()));
        let kind = self.kind(&path, target, &mut read)?;
        let entry = attributes(&path, kind, read.header())?;
        if path.is_empty() {
            return Ok(());
        }
        let limit = u64::try_from(self.limits.entries).unwrap_or(u64::MAX);
        if self.files.entries >= self.limits.entries {
            return Err(self.too_large("files", limit, &path));
        }
        match self.files.insert(&path, entry) {
            Ok(()) => Ok(()),
            Err(Unfit::Twice) => Err(Damage::Invalid { path, reason: "duplicate path".into() }),
            Err(Unfit::TooMany) => Err(self.too_large("files", limit, &path)),
        }
    }

    /// Reads a path or a target that is too long for a header.
    fn name(&self, read: &mut impl Read, path: &str) -> Result<Vec<u8>, Damage> {
        let mut name = self.content(read, path, LONGEST_PATH)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// Reads a POSIX extended header, which bsdtar writes.
    fn extended(&mut self, read: &mut impl Read, path: &str) -> Result<(), Damage> {
        let bytes = self.content(read, path, 4 * LONGEST_PATH)?;
        for extension in tar::PaxExtensions::new(&bytes) {
            let invalid =
                |e: io::Error| Damage::Invalid { path: path.to_owned(), reason: e.to_string() };
            let extension = extension.map_err(invalid)?;
            match extension.key_bytes() {
                b"path" => self.names.path = Some(extension.value_bytes().to_vec()),
                b"linkpath" => self.names.target = Some(extension.value_bytes().to_vec()),
                _ => {}
            }
        }
        Ok(())
    }

    fn content(&self, read: &mut impl Read, path: &str, limit: u64) -> Result<Vec<u8>, Damage> {
        let mut bytes = Vec::new();
        read.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Damage::Archive {
            reason: format!("{path}: {error}"),
            entries: self.files.entries,
        })?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            return Err(self.too_large("bytes in one file", limit, path));
        }
        Ok(bytes)
    }

    /// Checks and normalizes a path.
    fn path(&self, bytes: Vec<u8>) -> Result<String, Damage> {
        let invalid =
            |path: &str, reason: &str| Damage::Invalid { path: path.into(), reason: reason.into() };
        let path = String::from_utf8(bytes).map_err(|error| {
            invalid(&String::from_utf8_lossy(error.as_bytes()), "the path is not UTF-8")
        })?;
        if path.starts_with('/') {
            return Err(invalid(&path, "absolute paths are not allowed in a recording"));
        }
        let names: Vec<&str> = components(&path).collect();
        if names.contains(&"..") {
            return Err(invalid(&path, "paths with .. are not allowed in a recording"));
        }
        let longest = usize::try_from(LONGEST_PATH).unwrap_or(usize::MAX);
        if names.len() > self.limits.depth || path.len() > longest || path.contains('\0') {
            return Err(invalid(&path, "the path is too deep, too long or contains a zero byte"));
        }
        Ok(names.join("/"))
    }

    fn kind<R: Read>(
        &self,
        path: &str,
        target: Option<Vec<u8>>,
        read: &mut tar::Entry<'_, R>,
    ) -> Result<Kind, Damage> {
        let invalid =
            |reason: &str| Damage::Invalid { path: path.to_owned(), reason: reason.to_owned() };
        Ok(match read.header().entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                Kind::File(Some(self.content(read, path, self.limits.file)?))
            }
            EntryType::Symlink => {
                let target = String::from_utf8(target.unwrap_or_default());
                Kind::Link(target.map_err(|_| invalid("the link target is not UTF-8"))?)
            }
            kind @ (EntryType::Char | EntryType::Block) => {
                let header = read.header();
                let number = (header.device_major(), header.device_minor());
                let (Ok(Some(major)), Ok(Some(minor))) = number else {
                    return Err(invalid("device without a number"));
                };
                Kind::Device { block: kind == EntryType::Block, number: (major, minor) }
            }
            EntryType::Fifo => Kind::Other,
            other => {
                return Err(invalid(&format!("file type {other:?} is not allowed in a recording")));
            }
        })
    }

    /// Applies the files of our own, and builds the tree.
    fn finish(self) -> Result<Tree, Damage> {
        let mut files = self.files;
        if let Some(facts) = files.text(FACTS) {
            let invalid = |e: serde_json::Error| Damage::Invalid {
                path: FACTS.into(),
                reason: e.to_string(),
            };
            let facts: Facts = serde_json::from_str(facts).map_err(invalid)?;
            if facts.format > FORMAT {
                return Err(Damage::Newer { format: facts.format });
            }
        }
        let claimed = files.text(CLAIMED).unwrap_or_default();
        files.claimed = claimed.lines().map(str::to_owned).collect();
        for line in files.text(ERRORS).unwrap_or_default().to_owned().lines() {
            let (number, path) = line.split_once(' ').unwrap_or_default();
            let errno = number.parse().ok().filter(|number| (1..4096).contains(number));
            let Some(errno) = errno.map(Errno::from_raw_os_error) else {
                let reason = format!("invalid line {line:?}");
                return Err(Damage::Invalid { path: ERRORS.into(), reason });
            };
            files.fail(path, errno);
        }
        Ok(files.build())
    }
}

/// The entry of a file. An empty file with mode 0 was not read when the recording was created.
fn attributes(path: &str, kind: Kind, header: &Header) -> Result<Entry, Damage> {
    let invalid = |e: io::Error| Damage::Invalid { path: path.to_owned(), reason: e.to_string() };
    let number =
        |n: io::Result<u64>| n.map(|n| u32::try_from(n).unwrap_or(u32::MAX)).map_err(invalid);
    let mode = header.mode().map_err(invalid)? & 0o7777;
    let (uid, gid) = (number(header.uid())?, number(header.gid())?);
    let kind = match kind {
        Kind::File(Some(content)) if content.is_empty() && mode == 0 => Kind::File(None),
        other => other,
    };
    Ok(Entry { kind, mode, uid, gid, error: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Dir;
    use flate2::Compression;
    use flate2::read::MultiGzDecoder;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use tar::Builder;

    /// An archive of files, whose names are written unchecked.
    fn archive(files: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind, text) in files {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mode(0o644);
            let content = if kind.is_symlink() || kind.is_hard_link() {
                header.set_link_name_literal(text).unwrap();
                ""
            } else {
                text
            };
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    fn said(bytes: &[u8]) -> String {
        unpack(bytes).unwrap_err().to_string()
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn invalid_entries_are_refused() {
        let hostile = [
            ("/etc/passwd", FILE, "x", "absolute"),
            ("sys/../../etc/passwd", FILE, "x", ".."),
            ("sys/link", EntryType::Link, "sys/other", "type Link"),
            ("sys/odd", EntryType::new(b'S'), "", "type GNUSparse"),
        ];
        for (path, kind, text, reason) in hostile {
            let said = said(&archive(&[(path, kind, text)]));
            assert!(said.starts_with(path) && said.contains(reason), "{said}");
        }
        let twice = [("sys/a", FILE, "1"), ("sys/a", EntryType::Symlink, "b")];
        assert_eq!(said(&archive(&twice)), "sys/a: duplicate path");
        let deep = "a/".repeat(49);
        let deep = [(deep.as_str(), EntryType::Directory, "")];
        let shallow = Limits { depth: 48, ..LIMITS };
        let refused = unpack_within(archive(&deep).as_slice(), shallow).unwrap_err();
        assert!(refused.to_string().contains("too deep"), "{refused}");
    }

    #[test]
    fn plain_archives_are_read_and_other_compressions_named() {
        let zipped = archive(&[("sys/a", FILE, "text")]);
        let mut plain = Vec::new();
        MultiGzDecoder::new(zipped.as_slice()).read_to_end(&mut plain).unwrap();
        let read = |bytes: &[u8]| {
            let top = Dir::of_recording(std::sync::Arc::new(unpack(bytes).unwrap()));
            top.text("sys/a").unwrap()
        };
        assert_eq!(read(&plain), "text");
        assert_eq!(read(&zipped), "text");
        let others: [(&[u8], &str); 4] = [
            (b"\xfd7zXZ\0rest", "xz -d"),
            (b"BZh91AY", "bzip2 -d"),
            (b"\x28\xb5\x2f\xfdrest", "zstd -d"),
            (b"PK\x03\x04rest", "unzip"),
        ];
        for (bytes, by) in others {
            let Err(Damage::Compressed { by: told, .. }) = unpack(bytes) else { panic!("{by}") };
            assert_eq!(told, by);
        }
        let gzip = |bytes: &[u8]| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut packed, bytes).unwrap();
            packed.finish().unwrap()
        };
        for (bytes, by) in [(others[0].0, "xz -d"), (zipped.as_slice(), "gzip -d")] {
            let refused = unpack(gzip(bytes).as_slice()).unwrap_err();
            let Damage::CompressedTwice { by: told, .. } = refused else { panic!("{refused}") };
            assert_eq!(told, by);
        }
        let words = unpack(gzip(b"hello").as_slice()).unwrap_err().to_string();
        assert!(words.starts_with("not a valid recording"), "{words}");
        assert!(matches!(unpack(&b""[..]), Err(Damage::Empty)));
        assert!(matches!(unpack(&b"hello"[..]), Err(Damage::NoArchive)));
    }

    #[test]
    fn a_link_out_leads_nowhere() {
        let bytes =
            archive(&[("sys/out", EntryType::Symlink, "/etc"), ("sys/out/passwd", FILE, "x")]);
        let top = Dir::of_recording(unpack(bytes.as_slice()).unwrap().into());
        assert_eq!(top.link("sys/out").unwrap(), "/etc");
        assert_eq!(top.text("sys/out/passwd"), Err(Errno::NOENT));
        assert_eq!(top.text("etc/passwd"), Err(Errno::NOENT));
    }

    #[test]
    fn bombs_are_refused_before_they_explode() {
        let zeros = "0".repeat(1 << 20);
        let bomb = archive(&[("sys/a", FILE, &zeros), ("sys/b", FILE, &zeros)]);
        assert!(bomb.len() < 20_000);
        let refused = |limits| unpack_within(bomb.as_slice(), limits).unwrap_err().to_string();
        let file = refused(Limits { file: 1000, ..LIMITS });
        assert!(file.contains("more than 1000 bytes in one file (at sys/a)"), "{file}");
        let files = refused(Limits { entries: 1, ..LIMITS });
        assert!(files.contains("more than 1 files (at sys/b)"), "{files}");
        let bytes = refused(Limits { bytes: 1 << 20, ..LIMITS });
        assert!(bytes.contains("recording"), "{bytes}");
    }

    #[test]
    fn damaged_recordings_are_refused() {
        let good = archive(&[("sys/a", FILE, &"text ".repeat(500)), ("sys/b", FILE, "x")]);
        assert!(unpack(good.as_slice()).is_ok());
        assert!(said(&good[..good.len() / 2]).contains("not a valid recording"));
        assert!(said(b"plain text").contains("not a valid recording"));
        let errors = archive(&[("handover/errors", FILE, "many sys/a\n")]);
        assert!(said(&errors).contains("invalid line"));
        let facts = r#"{"format":99,"handover":"9","recorded":"","as_root":true,"replaced":true}"#;
        let newer = archive(&[("handover/recording.json", FILE, facts)]);
        assert!(said(&newer).contains("use a newer handover"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = unpack(bytes.as_slice());
        }

        #[test]
        fn no_damage_panics(at in 0usize..3000, by: u8) {
            let mut bytes = Vec::new();
            MultiGzDecoder::new(
                archive(&[("sys/a", FILE, "text"), ("sys/b", EntryType::Symlink, "a")]).as_slice(),
            )
            .read_to_end(&mut bytes)
            .unwrap();
            let at = at % bytes.len();
            bytes[at] = by;
            let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
            io::Write::write_all(&mut zipped, &bytes).unwrap();
            let _ = unpack(zipped.finish().unwrap().as_slice());
        }
    }
}
