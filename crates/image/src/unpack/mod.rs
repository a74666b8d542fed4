//! Unpacks an archive (`.tar.gz`) of a stranger into a directory of ours.
//!
//! Nothing outside of the directory is touched, whatever the archive says: each entry is made beneath it without following any
//! link (openat2(2)), with `..` refused. Owners, modes and times are kept, in a directory that only root can enter; or marked, for a
//! program that shall read everything and write nothing ([`Marks`]).

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat,
    fchmod, fchown, futimens, linkat, mkdirat, openat, openat2, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType, Header};

use crate::budget::Allowance;
use crate::ext4::Marks;
use crate::{Cancel, ImageError};

/// The most entries of an archive.
const MOST_ENTRIES: u64 = 1_000_000;

/// The longest path in an archive, in bytes. mke2fs writes beyond its buffer for longer ones (`path_append` in
/// misc/create_inode.c of e2fsprogs).
const LONGEST_PATH: usize = 1000;

/// The most names of one directory. mke2fs reads all of a directory for each name that it adds (`ext2fs_link` of e2fsprogs): this many
/// took two and a half minutes of processor time where ten thousand took 3.5 seconds.
const MOST_NAMES: u32 = 65_536;

/// The most memory for directories whose owners and modes are set at the end, in bytes.
const MOST_DIRECTORIES: usize = 64 << 20;

/// What an entry takes of the disk besides its data, at least.
const ENTRY: u64 = 4096;

/// How many bytes are copied at a time.
const BUFFER: usize = 256 << 10;

/// The mode and the owner of what is made before they are set.
const PRIVATE: u32 = 0o700;

/// The modes of what is made for a program that may read it.
const READABLE_FILE: u32 = 0o444;
const READABLE_DIRECTORY: u32 = 0o555;

/// The most that headers before an entry can have: long names, and what else describes it.
const MOST_HEADERS: u64 = 1 << 20;

/// A reader of which only so much can be read at a time: the library reads some headers whole.
struct Metered<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("a header is too long"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left.set(left.saturating_sub(count as u64));
        Ok(count)
    }
}

/// What limits an archive.
pub struct Bounds<'a> {
    /// The most that it may have, in bytes.
    pub most: u64,
    /// What it may take of the disk.
    pub allowance: &'a mut Allowance,
    /// What ends it early.
    pub cancel: &'a Cancel,
    /// Where modes and groups are kept, if all users may read what is made: files get their marks as groups. Without it they get their own.
    pub marks: Option<&'a mut Marks>,
}

/// An open directory of which nothing is made outside.
struct Top {
    dir: OwnedFd,
    /// How many directories were made that no entry describes, and are not yet counted.
    implied: Cell<u64>,
    /// How many names each directory has, by the hash of its path.
    names: RefCell<HashMap<u64, u32>>,
}

/// Unpacks an archive into the empty directory `into`. Returns how many files, directories and links were made, at most.
///
/// # Errors
/// [`ImageError::Archive`] if it is no archive, or has what is not accepted; [`ImageError::ArchiveTooLarge`];
/// [`ImageError::NoRoom`].
pub fn unpack(archive: impl Read, into: &Path, bounds: &mut Bounds<'_>) -> Result<u64, ImageError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = openat(CWD, into, flags, Mode::empty())
        .map_err(|error| ImageError::io("open", into, error))?;
    let top = Top { dir: top, implied: Cell::new(0), names: RefCell::default() };
    let left = Rc::new(Cell::new(MOST_HEADERS));
    let inner = MultiGzDecoder::new(archive);
    let mut archive = Archive::new(Metered { inner, left: Rc::clone(&left) });
    let (mut taken, mut made) = (0u64, 0u64);
    let mut dirs: BTreeMap<PathBuf, Header> = BTreeMap::new();
    let mut dirs_size = 0usize;
    for entry in archive.entries().map_err(unreadable)? {
        bounds.cancel.check()?;
        let mut entry = entry.map_err(unreadable)?;
        made += 1;
        if made > MOST_ENTRIES {
            return Err(refused(format!("it has more than {MOST_ENTRIES} files and directories")));
        }
        taken = taken.saturating_add(ENTRY).saturating_add(entry.size());
        if taken > bounds.most {
            return Err(ImageError::ArchiveTooLarge { most: bounds.most });
        }
        let path = plain(&entry.path_bytes())?;
        if path.as_os_str().is_empty() {
            // The directory itself.
            continue;
        }
        bounds.allowance.take(ENTRY)?;
        expect_plain_file(&mut entry, &path)?;
        if entry.header().entry_type() == EntryType::Directory
            && dirs.insert(path.clone(), entry.header().clone()).is_none()
        {
            dirs_size += path.as_os_str().len() + size_of::<Header>();
            if dirs_size > MOST_DIRECTORIES {
                return Err(refused("it has too many directories".to_owned()));
            }
        }
        make(&top, &mut entry, &path, bounds, &left)?;
        let implied = top.implied.take();
        made = made.saturating_add(implied);
        let implied = implied.saturating_mul(ENTRY);
        taken = taken.saturating_add(implied);
        if taken > bounds.most {
            return Err(ImageError::ArchiveTooLarge { most: bounds.most });
        }
        bounds.allowance.take(implied)?;
        bounds.allowance.wrote();
        left.set(MOST_HEADERS);
    }
    // From the inside out: a directory that cannot be written to has its files by then.
    for (path, header) in dirs.iter().rev() {
        let settled = Attributes::of(header, bounds)
            .and_then(|attributes| attributes.set(&File::from(top.open_dir(path)?)));
        settled.map_err(|error| failed(path, &error))?;
    }
    Ok(made)
}

/// Refuses a sparse file in the form of POSIX archives, whose data begins with a map.
fn expect_plain_file<R: Read>(entry: &mut Entry<'_, R>, path: &Path) -> Result<(), ImageError> {
    let Some(mut extensions) = entry.pax_extensions().map_err(unreadable)? else { return Ok(()) };
    let is_sparse =
        extensions.any(|one| one.is_ok_and(|one| one.key_bytes().starts_with(b"GNU.sparse.")));
    if is_sparse {
        return Err(refused(format!(
            "{} is a sparse file in a form that is not read: make the archive with `tar --format=gnu`, or without `--sparse`",
            path.display()
        )));
    }
    Ok(())
}

/// Makes what an entry describes. A directory gets its owner and mode later.
fn make<R: Read>(
    top: &Top,
    entry: &mut Entry<'_, R>,
    path: &Path,
    bounds: &mut Bounds<'_>,
    left: &Cell<u64>,
) -> Result<(), ImageError> {
    let named = |error: io::Error| failed(path, &error);
    let what = match entry.header().entry_type() {
        EntryType::Directory => return top.dir(path).map_err(named),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let file = top.file(path).map_err(named)?;
            copy(entry, &file, path, bounds, left)?;
            let attributes = Attributes::of(entry.header(), bounds).map_err(named)?;
            return attributes.set(&file).map_err(named);
        }
        EntryType::Symlink => {
            let target = link_target(entry, path)?;
            let attributes = Attributes::of(entry.header(), bounds).map_err(named)?;
            return top.symlink(path, &target, &attributes).map_err(named);
        }
        EntryType::Link => {
            let target = plain(link_target(entry, path)?.as_os_str().as_bytes())?;
            return top.link(&target, path).map_err(named);
        }
        // What describes others.
        EntryType::XGlobalHeader | EntryType::XHeader => return Ok(()),
        EntryType::Char | EntryType::Block => "a device node",
        EntryType::Fifo => "a FIFO",
        _ => "an entry of an unknown type",
    };
    Err(refused(format!("{} is {what}", path.display())))
}

/// Copies the data of an entry.
fn copy<R: Read>(
    entry: &mut Entry<'_, R>,
    mut file: &File,
    path: &Path,
    bounds: &mut Bounds<'_>,
    left: &Cell<u64>,
) -> Result<(), ImageError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        bounds.cancel.check()?;
        left.set(MOST_HEADERS + BUFFER as u64);
        let count = entry.read(&mut buffer).map_err(unreadable)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        bounds.allowance.take(count as u64)?;
        file.write_all(bytes).map_err(|error| failed(path, &error))?;
        bounds.allowance.wrote();
    }
}

impl Top {
    /// Opens a directory beneath, without following any link.
    fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(openat2(&self.dir, path, flags, Mode::empty(), resolve)?)
    }

    /// The directory of an entry, which is made if it is missing, and the entry's name in it.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a Path)> {
        let name = path.file_name().map(Path::new).ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        self.count(parent)?;
        match self.open_dir(parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return Ok((opened?, name)),
        }
        let mut so_far = PathBuf::new();
        let mut at = self.open_dir(&so_far)?;
        for part in parent.components() {
            match mkdirat(&at, part.as_os_str(), Mode::from_raw_mode(PRIVATE)) {
                Err(Errno::EXIST) => {}
                made => {
                    made?;
                    self.count(&so_far)?;
                    self.implied.set(self.implied.get().saturating_add(1));
                    // As tar makes them.
                    let made = openat(&at, part.as_os_str(), directory(), Mode::empty())?;
                    fchmod(&made, Mode::from_raw_mode(0o755))?;
                }
            }
            so_far.push(part);
            at = self.open_dir(&so_far)?;
        }
        Ok((at, name))
    }

    /// Counts a name of a directory.
    fn count(&self, dir: &Path) -> io::Result<()> {
        let mut hasher = DefaultHasher::new();
        dir.hash(&mut hasher);
        let mut names = self.names.borrow_mut();
        let count = names.entry(hasher.finish()).or_default();
        *count += 1;
        if *count > MOST_NAMES {
            return Err(io::Error::other(format!(
                "its directory has more than {MOST_NAMES} names, for which mke2fs would need too long"
            )));
        }
        Ok(())
    }

    fn dir(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.place(path)?;
        match mkdirat(&parent, name, Mode::from_raw_mode(PRIVATE)) {
            Err(Errno::EXIST) => {
                let found = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                    return Ok(());
                }
                unlinkat(&parent, name, AtFlags::empty())?;
                Ok(mkdirat(&parent, name, Mode::from_raw_mode(PRIVATE))?)
            }
            made => Ok(made?),
        }
    }

    /// Makes a place free: a later entry of the same name replaces an earlier one.
    fn free(parent: impl AsFd, name: &Path) -> io::Result<()> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<File> {
        let (parent, name) = self.place(path)?;
        Self::free(&parent, name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&parent, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    fn symlink(&self, path: &Path, target: &Path, attributes: &Attributes) -> io::Result<()> {
        let (parent, name) = self.place(path)?;
        Self::free(&parent, name)?;
        symlinkat(target, &parent, name)?;
        if let Some((uid, gid)) = attributes.owner {
            chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(utimensat(&parent, name, &attributes.times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        let from = target.file_name().map(Path::new).ok_or(io::ErrorKind::InvalidInput)?;
        let from_dir = self.open_dir(target.parent().unwrap_or(Path::new("")))?;
        let (parent, name) = self.place(path)?;
        if target == path {
            return Ok(());
        }
        Self::free(&parent, name)?;
        // A link is not followed.
        Ok(linkat(&from_dir, from, &parent, name, AtFlags::empty())?)
    }
}

const fn directory() -> OFlags {
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC)
}

/// Owner, mode and time that an entry gets.
struct Attributes {
    owner: Option<(Uid, Gid)>,
    mode: Mode,
    times: Timestamps,
}

impl Attributes {
    fn of(header: &Header, bounds: &mut Bounds<'_>) -> io::Result<Self> {
        let (owner, mode) = (owner(header)?, header.mode()? & 0o7777);
        let times = times(header);
        let (Some(marks), Some((uid, gid))) = (bounds.marks.as_deref_mut(), owner) else {
            return Ok(Self { owner, mode: Mode::from_raw_mode(mode), times });
        };
        let (mode, readable) = match header.entry_type() {
            EntryType::Directory => (mode, READABLE_DIRECTORY),
            // The kernel gives links all permissions, whatever an archive says.
            EntryType::Symlink => (0o777, READABLE_FILE),
            _ => (mode, READABLE_FILE),
        };
        let mark = Gid::from_raw(marks.of(mode, gid.as_raw()));
        Ok(Self { owner: Some((uid, mark)), mode: Mode::from_raw_mode(readable), times })
    }

    /// Sets them. The owner first: a change of it removes the bits for setuid.
    fn set(&self, file: &File) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            fchown(file, Some(uid), Some(gid))?;
        }
        fchmod(file, self.mode)?;
        Ok(futimens(file, &self.times)?)
    }
}

/// The owner of an entry; `None` if this process cannot give files to others.
fn owner(header: &Header) -> io::Result<Option<(Uid, Gid)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let id = |id: u64| {
        let known = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        known.ok_or_else(|| io::Error::other(format!("{id} is no id of a user or a group")))
    };
    Ok(Some((Uid::from_raw(id(header.uid()?)?), Gid::from_raw(id(header.gid()?)?))))
}

fn times(header: &Header) -> Timestamps {
    let seconds = header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or_default();
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// The target of a link.
fn link_target<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<PathBuf, ImageError> {
    let target = entry.link_name_bytes();
    let target = target.filter(|target| !target.is_empty() && !target.contains(&0));
    let target = target
        .ok_or_else(|| refused(format!("{} is a link that leads nowhere", path.display())))?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&target)))
}

/// A path of an entry without `.` and a leading `/`; one with `..` is refused.
fn plain(bytes: &[u8]) -> Result<PathBuf, ImageError> {
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    let shown = || path.display().to_string().chars().take(200).collect::<String>();
    if bytes.len() > LONGEST_PATH || bytes.contains(&0) {
        return Err(refused(format!("the path {:?} is no path of a file", shown())));
    }
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused(format!("the path {:?} leads out of it", shown())));
            }
        }
    }
    Ok(plain)
}

fn refused(problem: String) -> ImageError {
    ImageError::Archive { problem }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: io::Error) -> ImageError {
    refused(format!("it is not a complete .tar.gz file: {error}"))
}

/// The error for an entry that cannot be made.
fn failed(path: &Path, error: &io::Error) -> ImageError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ImageError::NoSpace { path: path.into() }
        }
        _ => refused(format!("cannot unpack {}: {error}", path.display())),
    }
}
