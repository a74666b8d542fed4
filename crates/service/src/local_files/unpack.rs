//! Writes what comes out of a guest, below one directory.
//!
//! Each component of a path is opened by itself and never through a link, so no link that the guest sent, now or before, leads
//! elsewhere. A file is written under another name, and moved to its own when it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use api::CopyHeader;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, chownat, fchmod, fchown, mkdirat, openat, renameat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::{LocalError, Part, Receiver, components, contents, next};

/// The most directories whose permissions are set at the end.
const MOST_DEFERRED: usize = 100_000;

/// Where a copy goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// What is in the copied directory goes into this one, which exists.
    Into(PathBuf),
    /// The copied file or directory goes below a directory, under this name.
    Below {
        /// The directory, which exists.
        dir: PathBuf,
        /// The name.
        name: OsString,
    },
}

/// What is kept of permissions and owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Permissions to read, write and execute. Files belong to who copies, and none gets the rights of its owner when it is run.
    Modes,
    /// All permissions, and owners and groups as numbers.
    All,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Writes what comes, until the copy ends.
///
/// # Errors
/// See [`LocalError`]. What was written until then stays.
pub fn unpack(place: &Place, keep: Keep, from: &mut Receiver) -> Result<Unpacked, LocalError> {
    let mut unpack = Unpack::begin(place, keep)?;
    let mut done = Unpacked::default();
    loop {
        match next(from)? {
            Part::End => break,
            Part::Data(_) => return Err(LocalError::Guest("contents without a file".into())),
            Part::Header(header) => {
                done.bytes = done.bytes.saturating_add(unpack.entry(&header, from)?);
                done.entries += 1;
            }
        }
    }
    unpack.finish()?;
    Ok(done)
}

struct Unpack<'a> {
    place: &'a Place,
    keep: Keep,
    /// The directory of the place.
    dir: OwnedFd,
    /// Directories, with the permissions that they get when all is in them.
    deferred: Vec<(OwnedFdPath, Mode)>,
}

/// The components of a directory's path below the place.
type OwnedFdPath = Vec<OsString>;

const OPEN_DIR: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);

impl<'a> Unpack<'a> {
    fn begin(place: &'a Place, keep: Keep) -> Result<Self, LocalError> {
        let (Place::Into(dir) | Place::Below { dir, .. }) = place;
        let opened = openat(CWD, dir, OPEN_DIR, Mode::empty());
        let dir = opened.map_err(|errno| LocalError::file("open", dir)(errno.into()))?;
        Ok(Self { place, keep, dir, deferred: Vec::new() })
    }

    /// Writes an entry; the bytes of its file.
    fn entry(&mut self, header: &CopyHeader, from: &mut Receiver) -> Result<u64, LocalError> {
        let mut path: Vec<OsString> = match self.place {
            Place::Into(_) => Vec::new(),
            Place::Below { name, .. } => vec![name.clone()],
        };
        path.extend(components(&header.path)?.into_iter().map(OsString::from));
        let Some((name, parents)) = path.split_last() else {
            // The permissions of a directory that was there stay.
            return match header.is_dir {
                true => Ok(0),
                false => Err(LocalError::Guest("a file in the place of a directory".into())),
            };
        };
        let dir = self.parents(parents)?;
        let failed =
            |errno: Errno| LocalError::file("write", PathBuf::from_iter(&path))(errno.into());
        if header.is_dir {
            self.directory(&dir, name, header).map_err(failed)?;
            self.defer(&path, header)?;
            return Ok(0);
        }
        let draft = draft(&dir).map_err(failed)?;
        if header.is_symlink {
            symlinkat(&header.link_target, &dir, &draft.name).map_err(failed)?;
            if self.keep == Keep::All {
                let (uid, gid) = owner(header);
                let no_follow = AtFlags::SYMLINK_NOFOLLOW;
                chownat(&dir, &draft.name, uid, gid, no_follow).map_err(failed)?;
            }
        } else {
            self.file(&dir, &draft.name, header, from, failed)?;
        }
        renameat(&dir, &draft.name, &dir, name).map_err(failed)?;
        Ok(if header.is_symlink { 0 } else { header.size })
    }

    /// The directory with these components, which are made where they are missing.
    fn parents(&self, parents: &[OsString]) -> Result<OwnedFd, LocalError> {
        let failed =
            |errno: Errno| LocalError::file("open", PathBuf::from_iter(parents))(errno.into());
        let mut dir = openat(&self.dir, ".", OPEN_DIR, Mode::empty()).map_err(failed)?;
        for name in parents {
            dir = match open_dir(&dir, name) {
                Err(Errno::NOENT) => {
                    mkdirat(&dir, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
                    open_dir(&dir, name).map_err(failed)?
                }
                opened => opened.map_err(failed)?,
            };
        }
        Ok(dir)
    }

    fn directory(&self, dir: &OwnedFd, name: &OsStr, header: &CopyHeader) -> Result<(), Errno> {
        match mkdirat(dir, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let made = open_dir(dir, name)?;
        if self.keep == Keep::All {
            let (uid, gid) = owner(header);
            fchown(&made, uid, gid)?;
        }
        // Until the end, we can write there.
        fchmod(&made, self.mode(header) | Mode::RWXU)
    }

    fn defer(&mut self, path: &[OsString], header: &CopyHeader) -> Result<(), LocalError> {
        let mode = self.mode(header);
        if mode.contains(Mode::RWXU) {
            return Ok(());
        }
        if self.deferred.len() >= MOST_DEFERRED {
            let what = format!("more than {MOST_DEFERRED} directories that cannot be written");
            return Err(LocalError::Guest(what));
        }
        self.deferred.push((path.to_vec(), mode));
        Ok(())
    }

    fn file(
        &self,
        dir: &OwnedFd,
        draft: &OsStr,
        header: &CopyHeader,
        from: &mut Receiver,
        failed: impl Fn(Errno) -> LocalError,
    ) -> Result<(), LocalError> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(dir, draft, flags, Mode::RUSR | Mode::WUSR).map_err(&failed)?;
        let mut file = File::from(opened);
        let io = |error: std::io::Error| LocalError::file("write", &header.path)(error);
        contents(from, header, |data| file.write_all(data).map_err(io))?;
        if self.keep == Keep::All {
            let (uid, gid) = owner(header);
            fchown(&file, uid, gid).map_err(&failed)?;
        }
        fchmod(&file, self.mode(header)).map_err(&failed)?;
        let past = Duration::from_secs(header.mtime.unsigned_abs());
        let time = match header.mtime < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(past),
            false => SystemTime::UNIX_EPOCH.checked_add(past),
        };
        if let Some(time) = time {
            // A file system that cannot store the guest's time keeps its own.
            let _ = file.set_modified(time);
        }
        Ok(())
    }

    fn mode(&self, header: &CopyHeader) -> Mode {
        let kept = match self.keep {
            Keep::Modes => 0o777,
            Keep::All => 0o7777,
        };
        Mode::from_raw_mode(header.mode & kept)
    }

    /// Sets what was deferred, the innermost first.
    fn finish(self) -> Result<(), LocalError> {
        for (path, mode) in self.deferred.iter().rev() {
            let dir = self.parents(path)?;
            let failed =
                |errno: Errno| LocalError::file("write", PathBuf::from_iter(path))(errno.into());
            fchmod(&dir, *mode).map_err(failed)?;
        }
        Ok(())
    }
}

fn open_dir(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(dir, name, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())
}

fn owner(header: &CopyHeader) -> (Option<Uid>, Option<Gid>) {
    // The highest number means "as it is" (chown(2)).
    let uid = (header.uid != u32::MAX).then(|| Uid::from_raw(header.uid));
    let gid = (header.gid != u32::MAX).then(|| Gid::from_raw(header.gid));
    (uid, gid)
}

/// A name for what is not complete yet. What has it is removed, unless it was moved away.
struct Draft<'a> {
    dir: &'a OwnedFd,
    name: OsString,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _ = unlinkat(self.dir, &self.name, AtFlags::empty());
    }
}

fn draft(dir: &OwnedFd) -> Result<Draft<'_>, Errno> {
    let name = format!(".handover-{}", uuid::Uuid::new_v4());
    Ok(Draft { dir, name: name.into() })
}
