//! Reads images that [`write`](super::write) made. They are ours: broken ones give an error, never a panic.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{
    BLOCK, INLINE, INODE, MAGIC, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG,
    SLOT, SUPER_OFFSET,
};

/// How many symbolic links a path has at most, as in Linux (`MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;

/// The most bytes of a directory, or of what is read whole.
const MOST_WHOLE: u64 = 256 << 20;

/// An image that is read.
pub struct Image {
    file: File,
    meta: u64,
    root: u64,
}

/// The kinds of what is in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
}

/// An inode of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub nid: u64,
    /// Its kind.
    pub kind: FoundKind,
    /// Its mode without the type.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its size in bytes.
    pub size: u64,
    /// How many names it has.
    pub links: u32,
    /// When it was changed, in seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
    /// The number of a device, as it is on the disk.
    pub device: u32,
    /// Its extended attributes, encoded.
    pub xattrs: Vec<u8>,
    block: u32,
    inline_at: Option<u64>,
}

impl Image {
    /// Opens an image.
    ///
    /// # Errors
    /// If it cannot be read, or is none of ours.
    pub fn open(file: File) -> io::Result<Self> {
        let mut bytes = [0; 128];
        file.read_exact_at(&mut bytes, SUPER_OFFSET as u64)?;
        if u32_at(&bytes, 0)? != MAGIC {
            return Err(broken());
        }
        let meta = u64::from(u32_at(&bytes, 40)?) * BLOCK;
        let root = u64::from(u16_at(&bytes, 14)?);
        Ok(Self { file, meta, root })
    }

    /// The root directory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn root(&self) -> io::Result<Found> {
        self.inode(self.root)
    }

    fn inode(&self, nid: u64) -> io::Result<Found> {
        let at = nid.checked_mul(SLOT).and_then(|place| place.checked_add(self.meta));
        let at = at.ok_or_else(broken)?;
        let mut bytes = [0; INODE];
        self.file.read_exact_at(&mut bytes, at)?;
        let mode = u16_at(&bytes, 4)?;
        let kind = match mode & S_IFMT {
            S_IFREG => FoundKind::File,
            S_IFDIR => FoundKind::Directory,
            S_IFLNK => FoundKind::Symlink,
            S_IFCHR => FoundKind::Char,
            S_IFBLK => FoundKind::Block,
            S_IFIFO => FoundKind::Fifo,
            _ => return Err(broken()),
        };
        let count = usize::from(u16_at(&bytes, 2)?);
        let mut xattrs = vec![0; if count == 0 { 0 } else { 12 + (count - 1) * 4 }];
        self.file.read_exact_at(&mut xattrs, at + INODE as u64)?;
        let is_inline = u16_at(&bytes, 0)? >> 1 == INLINE;
        let value = u32_at(&bytes, 16)?;
        Ok(Found {
            nid,
            kind,
            mode: mode & 0o7777,
            uid: u32_at(&bytes, 24)?,
            gid: u32_at(&bytes, 28)?,
            size: u64_at(&bytes, 8)?,
            links: u32_at(&bytes, 44)?,
            modified: (u64_at(&bytes, 32)?.cast_signed(), u32_at(&bytes, 40)?),
            device: value,
            block: value,
            inline_at: is_inline.then_some(at + (INODE + xattrs.len()) as u64),
            xattrs,
        })
    }

    /// Reads from an offset of a file; fewer bytes than the buffer has only at its end.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_at(&self, found: &Found, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = found.size.saturating_sub(offset);
        let whole =
            if found.inline_at.is_some() { found.size - found.size % BLOCK } else { found.size };
        let (from, left) = match found.inline_at {
            Some(inline) if offset >= whole => (inline + (offset - whole), left),
            _ => (u64::from(found.block) * BLOCK + offset, whole.saturating_sub(offset).min(left)),
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = buffer.get_mut(..most).unwrap_or_default();
        self.file.read_exact_at(chunk, from)?;
        Ok(chunk.len())
    }

    /// Hands the content of a file to `take`, in parts.
    ///
    /// # Errors
    /// If it cannot be read, and those of `take`.
    pub fn read(
        &self,
        found: &Found,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while at < found.size {
            let count = self.read_at(found, &mut buffer, at)?;
            match buffer.get(..count).filter(|chunk| !chunk.is_empty()) {
                Some(chunk) => take(chunk)?,
                None => return Err(broken()),
            }
            at += count as u64;
        }
        Ok(())
    }

    /// All of the content of a small file, or of a directory.
    ///
    /// # Errors
    /// If it cannot be read, or is too large.
    pub fn whole(&self, found: &Found) -> io::Result<Vec<u8>> {
        if found.size > MOST_WHOLE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut content = Vec::new();
        self.read(found, &mut |chunk| {
            content.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(content)
    }

    /// The names in a directory without `.` and `..`, sorted.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn list(&self, dir: &Found) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let content = self.whole(dir)?;
        let mut names = Vec::new();
        for block in content.chunks(4096) {
            let count = usize::from(u16_at(block, 8)?) / 12;
            for index in 0..count {
                let at = index * 12;
                let from = usize::from(u16_at(block, at + 8)?);
                let to =
                    if index + 1 < count { u16_at(block, at + 20)?.into() } else { block.len() };
                let name = block.get(from..to).ok_or_else(broken)?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                if name != b"." && name != b".." {
                    names.push((name.to_vec(), u64_at(block, at)?));
                }
            }
        }
        Ok(names)
    }

    /// An inode by its number, which [`list`](Self::list) said.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn get(&self, nid: u64) -> io::Result<Found> {
        self.inode(nid)
    }

    /// Finds a path. Links are followed within the image, the last one too. `None` if it is not there.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn find(&self, path: &[u8]) -> io::Result<Option<Found>> {
        let mut rest: VecDeque<Vec<u8>> =
            path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let mut way = vec![self.root()?];
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let Some(dir) = way.last().filter(|dir| dir.kind == FoundKind::Directory) else {
                return Ok(None);
            };
            let names = self.list(dir)?;
            let Ok(index) = names.binary_search_by(|(name, _)| name.cmp(&part)) else {
                return Ok(None);
            };
            let Some((_, nid)) = names.get(index) else { return Ok(None) };
            let found = self.inode(*nid)?;
            if found.kind != FoundKind::Symlink {
                way.push(found);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Ok(None);
            }
            let target = self.whole(&found)?;
            if target.first() == Some(&b'/') {
                way.truncate(1);
            }
            for part in target.split(|byte| *byte == b'/').rev() {
                rest.push_front(part.to_vec());
            }
        }
        Ok(way.pop())
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file system image is broken")
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let field = bytes.get(at..at.saturating_add(N)).and_then(|field| field.try_into().ok());
    field.ok_or_else(broken)
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}
