//! The form of an archive, by its first bytes: a recording is compressed with gzip, and a plain tar archive is read too.

use std::io::{self, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// A tar header, whose end has the magic number of the format (tar(5)).
const HEADER: usize = 512;
const USTAR: usize = 257;

/// Magic numbers of compressions that Handover does not read, and the programs that do.
const COMPRESSIONS: [(&[u8], &str, &str); 8] = [
    (b"\xfd7zXZ\0", "xz", "xz -d"),
    (b"BZh", "bzip2", "bzip2 -d"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
    (b"LZIP", "lzip", "lzip -d"),
    (b"\x1f\x9d", "compress", "uncompress"),
    (b"PK\x03\x04", "zip", "unzip"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", "7z x"),
];

/// Why an archive cannot be read.
#[derive(Debug)]
pub enum Unfit {
    /// It is compressed in another way: with what, and the program that undoes it.
    Compressed(&'static str, &'static str),
    /// It is no archive.
    Other,
    /// It has no bytes.
    Empty,
    /// Its first bytes cannot be read.
    Unreadable(io::Error),
}

type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// The uncompressed archive.
#[derive(Debug)]
pub enum Plain<R: Read> {
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Tar(Whole<R>),
}

impl<R: Read> Plain<R> {
    /// Recognizes the form.
    pub fn of(mut archive: R) -> Result<Self, Unfit> {
        let mut start = Vec::with_capacity(HEADER);
        let limit = u64::try_from(HEADER).unwrap_or(u64::MAX);
        archive.by_ref().take(limit).read_to_end(&mut start).map_err(Unfit::Unreadable)?;
        if start.is_empty() {
            return Err(Unfit::Empty);
        }
        let gzip = start.starts_with(&[0x1f, 0x8b]);
        // An archive without files is only zeros.
        let zeros = start.len() == HEADER && start.iter().all(|byte| *byte == 0);
        let tar = start.get(USTAR..).is_some_and(|rest| rest.starts_with(b"ustar")) || zeros;
        if !(gzip || tar) {
            let known = COMPRESSIONS.into_iter().find(|(magic, ..)| start.starts_with(magic));
            return Err(known.map_or(Unfit::Other, |(_, name, by)| Unfit::Compressed(name, by)));
        }
        let whole = Cursor::new(start).chain(archive);
        Ok(if gzip { Self::Gzip(Box::new(MultiGzDecoder::new(whole))) } else { Self::Tar(whole) })
    }
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(stream) => stream.read(buffer),
            Self::Tar(stream) => stream.read(buffer),
        }
    }
}
