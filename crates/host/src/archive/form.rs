//! The form of an archive, by its first bytes: a recording is compressed with gzip, and a plain tar archive is read too.

use std::io::{self, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// A tar header, whose end has the magic number of the format (tar(5)).
const HEADER: usize = 512;
const USTAR: usize = 257;

const GZIP: &[u8] = &[0x1f, 0x8b];
/// What is compressed with gzip twice.
const AGAIN: (&str, &str) = ("gzip", "gzip -d");

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
    /// It is compressed with gzip, and what is in it in another way.
    Within(&'static str, &'static str),
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
    Gzip(Box<Whole<MultiGzDecoder<Whole<R>>>>),
    Tar(Whole<R>),
}

impl<R: Read> Plain<R> {
    /// Recognizes the form.
    pub fn of(mut archive: R) -> Result<Self, Unfit> {
        let start = start(&mut archive)?;
        if start.is_empty() {
            return Err(Unfit::Empty);
        }
        let plain = is_tar(&start);
        if !(plain || start.starts_with(GZIP)) {
            let known = compression(&start);
            return Err(known.map_or(Unfit::Other, |(name, by)| Unfit::Compressed(name, by)));
        }
        let whole = Cursor::new(start).chain(archive);
        if plain {
            return Ok(Self::Tar(whole));
        }
        let mut inside = MultiGzDecoder::new(whole);
        let start = self::start(&mut inside)?;
        let known = if start.starts_with(GZIP) { Some(AGAIN) } else { compression(&start) };
        match known.filter(|_| !is_tar(&start)) {
            Some((name, by)) => Err(Unfit::Within(name, by)),
            None => Ok(Self::Gzip(Box::new(Cursor::new(start).chain(inside)))),
        }
    }
}

/// The first bytes, as many as a tar header has.
fn start(archive: &mut impl Read) -> Result<Vec<u8>, Unfit> {
    let mut start = Vec::with_capacity(HEADER);
    let limit = u64::try_from(HEADER).unwrap_or(u64::MAX);
    archive.take(limit).read_to_end(&mut start).map_err(Unfit::Unreadable)?;
    Ok(start)
}

fn is_tar(start: &[u8]) -> bool {
    // An archive without files is only zeros.
    let zeros = start.len() == HEADER && start.iter().all(|byte| *byte == 0);
    start.get(USTAR..).is_some_and(|rest| rest.starts_with(b"ustar")) || zeros
}

fn compression(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let known = COMPRESSIONS.into_iter().find(|(magic, ..)| start.starts_with(magic));
    known.map(|(_, name, by)| (name, by))
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(stream) => stream.read(buffer),
            Self::Tar(stream) => stream.read(buffer),
        }
    }
}
