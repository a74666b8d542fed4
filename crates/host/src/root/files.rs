//! An open directory in a file system.

use std::mem::MaybeUninit;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, readlinkat_raw, statx,
};
use rustix::io::Errno;

use super::{FileKind, Result, Status};
use crate::archive::CLAIMED;

/// The buffer for listing a directory, in bytes.
const LISTING: usize = 16 << 10;

/// For limits above this the file's length is read first, to allocate once.
const LARGE: usize = 64 << 10;

/// How often a path lookup is retried after EAGAIN because of concurrent renames.
const TRIES: usize = 1000;

/// The longest target of a link (`PATH_MAX`).
const LINK: usize = 4096;

/// A FIFO or a device under another root must not block the reader.
const READING: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Like a shell's `>`; kernel files ignore the truncation.
const WRITING: OFlags = OFlags::WRONLY.union(OFlags::TRUNC).union(OFlags::NOCTTY);

/// An open directory; all reads through it are of the same device.
#[derive(Debug)]
pub struct Files {
    fd: OwnedFd,
    resolve: ResolveFlags,
}

impl Files {
    /// Opens a root.
    pub fn open_root(path: &Path, host: bool) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let resolve = if host { ResolveFlags::empty() } else { ResolveFlags::IN_ROOT };
        Ok(Self { fd, resolve })
    }

    /// Another handle of the same directory.
    pub fn again(&self) -> std::io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, resolve: self.resolve })
    }

    /// Whether it belongs to the running system.
    const fn is_host(&self) -> bool {
        self.resolve.is_empty()
    }

    pub(super) fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if self.is_host() {
            rustix::fs::openat(&self.fd, path, flags, Mode::empty())
        } else {
            open_within(&self.fd, path, flags, self.resolve)
        }
    }

    pub fn dir(&self, path: &str) -> Result<Self> {
        let fd = self.open(path, OFlags::PATH | OFlags::DIRECTORY)?;
        let resolve = if self.is_host() {
            ResolveFlags::empty()
        } else {
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
        };
        Ok(Self { fd, resolve })
    }

    pub fn bytes(&self, path: &str, limit: usize) -> Result<Vec<u8>> {
        let file = self.readable(path)?;
        // Large regular files have a length; kernel files have none, or a page.
        let length = if limit > LARGE { rustix::fs::fstat(&file)?.st_size } else { 0 };
        let length = usize::try_from(length).unwrap_or_default().saturating_add(1);
        let space = Vec::with_capacity(length.clamp(4096, limit.max(4096)) + 1);
        read_all(&file, space, limit)
    }

    /// Reads once; returns the number of bytes.
    pub fn start(&self, path: &str, into: &mut [u8]) -> Result<usize> {
        let file = self.readable(path)?;
        retry(|| rustix::io::read(&file, &mut *into))
    }

    /// Reads the first bytes, at most so many that `into` is full; returns their number.
    pub fn first(&self, path: &str, into: &mut [u8]) -> Result<usize> {
        let file = self.readable(path)?;
        let mut length = 0;
        while let Some(rest) = into.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match retry(|| rustix::io::read(&file, &mut *rest))? {
                0 => break,
                read => length += read,
            }
        }
        Ok(length)
    }

    fn readable(&self, path: &str) -> Result<OwnedFd> {
        self.open(path, READING)
    }

    pub fn link(&self, path: &str) -> Result<String> {
        // A single name cannot leave the directory: there is no link to follow.
        if self.is_host() || !path.contains('/') {
            return read_link(&self.fd, path);
        }
        let link = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        read_link(&link, "").map_err(|errno| match errno {
            // For a descriptor that is not a link the kernel returns ENOENT; for a path, EINVAL.
            Errno::NOENT => Errno::INVAL,
            other => other,
        })
    }

    /// The names in a directory, unsorted; of all files or of subdirectories only.
    pub fn names(&self, path: &str, directories_only: bool) -> Result<Vec<String>> {
        let dir = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        let mut buffer = [const { MaybeUninit::uninit() }; LISTING];
        let mut entries = RawDir::new(dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if directories_only && entry.file_type() != FileType::Directory {
                continue;
            }
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    pub fn status(&self, path: &str, follow: bool) -> Result<Status> {
        // A single name cannot leave the directory, as for a link.
        if !follow && !path.contains('/') && !matches!(path, "" | "..") {
            let stat = rustix::fs::statat(&self.fd, path, AtFlags::SYMLINK_NOFOLLOW);
            return Ok(Status::from(&stat?));
        }
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        Ok(Status::from(&rustix::fs::fstat(self.open(path, flags)?)?))
    }

    pub fn exists(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    /// Never waits for a file server (`AT_STATX_DONT_SYNC`). Under another root links do not lead to devices.
    pub fn device(&self, path: &str) -> Option<(FileKind, (u32, u32))> {
        if !self.is_host() {
            return None;
        }
        let stat = statx(&self.fd, path, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok()?;
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::CharacterDevice => FileKind::Character,
            FileType::BlockDevice => FileKind::Block,
            _ => return None,
        };
        Some((kind, (stat.stx_rdev_major, stat.stx_rdev_minor)))
    }

    pub fn is_claimed(&self, path: &str) -> bool {
        if self.is_host() {
            let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK;
            return self.open(path, flags).is_err_and(|errno| errno == Errno::BUSY);
        }
        // Nodes under another root would be devices of this host; an unpacked recording has a list.
        let claimed = self.bytes(CLAIMED, 1 << 20).unwrap_or_default();
        claimed.split(|byte| *byte == b'\n').any(|line| line == path.as_bytes())
    }

    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        put(&self.open(path, WRITING)?, value)
    }

    /// Writes a file that must be below this directory: follows no link and no `..`.
    pub fn write_beneath(&self, path: &str, value: &str) -> Result<()> {
        put(&self.open_beneath(path, WRITING)?, value)
    }

    /// Reads a file that must be below this directory.
    pub fn bytes_beneath(&self, path: &str, limit: usize) -> Result<Vec<u8>> {
        let file = self.open_beneath(path, READING)?;
        read_all(&file, Vec::with_capacity(4096), limit)
    }

    fn open_beneath(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        open_within(&self.fd, path, flags | OFlags::CLOEXEC, resolve)
    }
}

/// Opens a path that must not lead out of a directory. During a rename anywhere on the system, the kernel cannot check
/// whether a `..` led out and returns EAGAIN; the caller must retry (openat2(2)).
fn open_within(dir: &OwnedFd, path: &str, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    let once = |_| rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve);
    let opened = (1..TRIES).map(once).find(|opened| !matches!(opened, Err(Errno::AGAIN)));
    opened.unwrap_or_else(|| once(TRIES))
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads a file to its end, into allocated space; `limit` bytes at most.
fn read_all(file: &OwnedFd, mut bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>> {
    while bytes.len() <= limit {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.len());
        }
        if retry(|| rustix::io::read(file, spare_capacity(&mut bytes)))? == 0 {
            return Ok(bytes);
        }
    }
    Err(Errno::FBIG)
}

/// Writes once. Not retried after a signal: the write may have taken effect.
fn put(file: &OwnedFd, value: &str) -> Result<()> {
    match rustix::io::write(file, value.as_bytes())? {
        written if written == value.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Reads a link with a single allocation.
fn read_link(dir: impl AsFd, path: &str) -> Result<String> {
    let mut buffer = [const { MaybeUninit::uninit() }; LINK];
    let (target, _) = readlinkat_raw(dir, path, &mut buffer)?;
    std::str::from_utf8(target).map(str::to_owned).map_err(|_| Errno::ILSEQ)
}

/// Retries a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
