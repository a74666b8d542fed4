//! Reads the entries of a layer's tar archive.
//!
//! The archive is untrusted. The crate `tar` parses the headers; what joins them is ours: its reader of PAX records splits them at
//! line ends, which values of extended attributes contain, and reads no sparse files in the form of POSIX archives.

use std::io::Read;

use tar::Header;

use super::block::{BLOCK, read_block};
use super::pax::{self, Pax};
use super::sparse::{self, Segment};
use crate::erofs::Chunk;
use crate::layer_problem::LayerProblem;

/// The most bytes of one header that describes the next entry: PAX records, or a long name.
const MOST_HEADER: u64 = 1 << 20;

/// The most such headers before one entry.
const MOST_HEADERS: u32 = 8;

/// How much of what follows the last entry is read at a time, and the most of it, in bytes.
const DRAINED: u64 = 16 << 20;
const MOST_AFTER: u64 = 1 << 30;

/// The longest path, in bytes: as Linux has it (`PATH_MAX`).
pub const LONGEST_PATH: usize = 4096;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Link,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
}

/// What an archive says of one entry.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: EntryKind,
    pub path: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    /// The mode without the type.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub seconds: i64,
    pub nanos: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The size of a file with its holes.
    pub size: u64,
}

/// A tar archive that is read from its beginning to its end.
pub struct Archive<R> {
    inner: R,
    /// Bytes of the entry's data that were not read yet.
    left: u64,
    /// The zeros after the data, up to a whole block.
    padding: u64,
    /// Where the data of a sparse file belongs, the next one last.
    segments: Vec<Segment>,
    /// The offset in the file, and its size.
    at: u64,
    size: u64,
    /// How many bytes were read after the last entry.
    after: u64,
}

/// What headers before an entry say of it.
#[derive(Default)]
struct Before {
    pax: Pax,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Archive<R> {
    pub const fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, segments: Vec::new(), at: 0, size: 0, after: 0 }
    }

    /// The next entry; what was not read of the one before is skipped.
    pub fn next(&mut self) -> Result<Option<Entry>, LayerProblem> {
        let mut before = Before::default();
        for _ in 0..=MOST_HEADERS {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type().as_byte();
            let stored = header.entry_size().map_err(LayerProblem::unreadable)?;
            match kind {
                b'x' => before.pax = pax::parse(&self.described(stored)?)?,
                b'L' => before.path = Some(terminated(self.described(stored)?)),
                b'K' => before.link = Some(terminated(self.described(stored)?)),
                // What describes all entries: nothing that an image needs.
                b'g' => drop(self.described(stored)?),
                _ => return self.entry(&header, kind, before).map(Some),
            }
        }
        Err(LayerProblem::HeaderTooLong)
    }

    /// The next part of the entry's content.
    pub fn chunk(&mut self, buffer: &mut [u8]) -> Result<Chunk, LayerProblem> {
        let Some(segment) = self.segments.last_mut() else {
            let hole = self.size.saturating_sub(self.at);
            self.at = self.size;
            return Ok(if hole > 0 { Chunk::Hole(hole) } else { Chunk::End });
        };
        if segment.offset > self.at {
            let hole = segment.offset - self.at;
            self.at = segment.offset;
            return Ok(Chunk::Hole(hole));
        }
        let most = usize::try_from(segment.length).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = buffer.get_mut(..most).unwrap_or_default();
        self.inner.read_exact(chunk).map_err(LayerProblem::unreadable)?;
        let count = chunk.len() as u64;
        segment.length -= count;
        segment.offset += count;
        if segment.length == 0 {
            self.segments.pop();
        }
        self.at += count;
        self.left = self.left.saturating_sub(count);
        Ok(Chunk::Data(chunk.len()))
    }

    /// The reader, and how many bytes before the next header were not read: the caller skips them itself.
    pub fn leave(&mut self) -> (&mut R, u64) {
        let rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        (&mut self.inner, rest)
    }

    /// Reads some of what follows the last entry, so that all of the archive is hashed; whether there may be more.
    pub fn drain(&mut self) -> Result<bool, LayerProblem> {
        self.skip()?;
        let some = &mut self.inner.by_ref().take(DRAINED);
        let count = std::io::copy(some, &mut std::io::sink()).map_err(LayerProblem::unreadable)?;
        self.after = self.after.saturating_add(count);
        if self.after > MOST_AFTER {
            return Err(LayerProblem::TooMuchAfter);
        }
        Ok(count == DRAINED)
    }

    fn skip(&mut self) -> Result<(), LayerProblem> {
        let rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let skipped = std::io::copy(&mut self.inner.by_ref().take(rest), &mut std::io::sink());
        match skipped.map_err(LayerProblem::unreadable)? {
            count if count == rest => Ok(()),
            _ => Err(LayerProblem::Truncated),
        }
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, LayerProblem> {
        let mut block = [0; BLOCK];
        if !read_block(&mut self.inner, &mut block)? || block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        // The checksum itself counts as spaces.
        let (before, after) = (block.get(..148), block.get(156..));
        let bytes = before.into_iter().chain(after).flatten();
        let sum = bytes.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum) {
            return Err(LayerProblem::NoArchive);
        }
        Ok(Some(header.clone()))
    }

    /// The data of a header that describes the next entry.
    fn described(&mut self, size: u64) -> Result<Vec<u8>, LayerProblem> {
        if size > MOST_HEADER {
            return Err(LayerProblem::HeaderTooLong);
        }
        let mut data = Vec::new();
        let taken = self.inner.by_ref().take(size).read_to_end(&mut data);
        if taken.map_err(LayerProblem::unreadable)? as u64 != size {
            return Err(LayerProblem::Truncated);
        }
        self.padding = padding(size);
        Ok(data)
    }

    fn entry(&mut self, header: &Header, kind: u8, before: Before) -> Result<Entry, LayerProblem> {
        let Before { mut pax, path, link } = before;
        let path = pax.path.take().or(path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.link.take().or(link);
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        if path.len() > LONGEST_PATH || path.contains(&0) {
            return Err(LayerProblem::path_too_long(&path));
        }
        let kind = kind_of(kind, &path)?;
        self.begin(header, kind, &pax)?;
        let path = pax.sparse.name.take().unwrap_or(path);
        let owner = |pax: Option<u64>, field: std::io::Result<u64>, bytes: [u8; 8]| {
            // Without digits it is root, as tar(1) reads it.
            let is_blank = bytes.iter().all(|byte| matches!(byte, 0 | b' '));
            let field = if is_blank { Ok(0) } else { field };
            let id = pax.map_or(field, Ok).map_err(LayerProblem::unreadable)?;
            let known = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            known.ok_or(LayerProblem::UnknownOwner { id })
        };
        let mode = header.mode().map_err(LayerProblem::unreadable)? & 0o7777;
        let (seconds, nanos) = pax.mtime.unwrap_or_else(|| {
            let seconds = header.mtime().ok().and_then(|time| i64::try_from(time).ok());
            (seconds.unwrap_or_default(), 0)
        });
        let number = |number: std::io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
        Ok(Entry {
            kind,
            path,
            link: link.unwrap_or_default(),
            mode: u16::try_from(mode).unwrap_or_default(),
            uid: owner(pax.uid, header.uid(), header.as_old().uid)?,
            gid: owner(pax.gid, header.gid(), header.as_old().gid)?,
            seconds,
            nanos,
            device: (number(header.device_major()), number(header.device_minor())),
            xattrs: pax.xattrs,
            size: self.size,
        })
    }

    /// Begins the data of an entry.
    fn begin(&mut self, header: &Header, kind: EntryKind, pax: &Pax) -> Result<(), LayerProblem> {
        let stored = header.entry_size().map_err(LayerProblem::unreadable)?;
        let stored = pax.size.unwrap_or(stored);
        self.at = 0;
        self.segments.clear();
        self.size = 0;
        if kind != EntryKind::File {
            // Others have no data, whatever size their header says: a hard link may have that of its target.
            return Ok(());
        }
        self.padding = padding(stored);
        self.left = stored;
        let map = if header.entry_type().as_byte() == b'S' {
            Some(sparse::of_gnu(header, &mut self.inner)?)
        } else {
            sparse::of_pax(&pax.sparse, &mut self.inner, &mut self.left)?
        };
        let whole = sparse::Map::whole(self.left);
        let map = map.unwrap_or(whole);
        map.expect_sound(self.left)?;
        self.size = map.size;
        self.segments = map.segments;
        self.segments.reverse();
        Ok(())
    }
}

const fn padding(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}

/// A name of a GNU header ends with a zero.
fn terminated(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|byte| *byte == 0) {
        name.truncate(end);
    }
    name
}

fn kind_of(kind: u8, path: &[u8]) -> Result<EntryKind, LayerProblem> {
    Ok(match kind {
        // Before POSIX, a directory was a file whose name ends so.
        0 | b'0' if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::Link,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::Char,
        b'4' => EntryKind::Block,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        kind => {
            return Err(LayerProblem::UnknownKind {
                path: crate::layer_problem::shown(path),
                kind,
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_last_entry_has_an_end() {
        let drained = |length: u64| {
            let mut archive = Archive::new(std::io::repeat(0).take(length));
            assert!(archive.next()?.is_none());
            while archive.drain()? {}
            Ok(())
        };
        assert_eq!(drained(3 * DRAINED), Ok(()));
        assert_eq!(drained(2 * MOST_AFTER), Err(LayerProblem::TooMuchAfter));
    }
}
