//! Directories.

use std::io;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, open, openat};
use rustix::io::Errno;

use crate::file::kind;
use crate::{Unfit, is_trusted, may_change};

/// The bits by which others than the owner can create, rename and remove files.
const OTHERS_WRITE: u32 = 0o022;

/// All users can write.
const ALL_WRITE: u32 = 0o002;

/// In a directory with this bit, users can replace only their own files (chmod(2)).
const STICKY: u32 = 0o1000;

/// The mode of missing directories above.
const ABOVE: u32 = 0o755;

/// What happens to the mode of a directory that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is set: only Handover uses this directory.
    Set,
    /// It is set if others can write, unless the directory is shared on purpose (sticky): an option named this directory.
    Tighten,
    /// It stays: other programs use the directory too.
    Keep,
}

/// Makes a directory, and those missing above it, with a mode that does not depend on the umask. One that exists must
/// belong to root or to us, and its mode is treated as `existing` says. A link to a directory is accepted if root or we
/// made it; the mode of its target stays.
///
/// # Errors
/// [`Unfit`], or that of the kernel.
pub fn make_dir(path: &Path, mode: u32, existing: Existing) -> io::Result<()> {
    // An empty path is the parent of a relative name.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // Another process may remove it or create it at any moment.
    for _ in 0..3 {
        match handle(path) {
            Ok(found) => return check(path, &found, mode, existing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if let Some(above) = path.parent() {
            make_dir(above, ABOVE, Existing::Keep)?;
        }
        match mkdirat(CWD, path, Mode::from_raw_mode(mode)) {
            Ok(()) => return set_new(path, mode),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // A dangling link exists for mkdir(2) only.
    Err(handle(path).err().unwrap_or_else(|| Errno::EXIST.into()))
}

/// A directory that exists.
struct Found {
    fd: OwnedFd,
    stat: Stat,
    by_link: bool,
}

fn handle(path: &Path) -> io::Result<Found> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = open(path, flags | OFlags::NOFOLLOW, Mode::empty())?;
    let stat = fstat(&fd)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(Found { fd, stat, by_link: false }),
        FileType::Symlink if !is_trusted(stat.st_uid) => Err(Unfit::LinkOf(stat.st_uid).into()),
        FileType::Symlink => {
            let fd = open(path, flags | OFlags::DIRECTORY, Mode::empty())?;
            let stat = fstat(&fd)?;
            Ok(Found { fd, stat, by_link: true })
        }
        other => Err(Unfit::Kind { expected: "directory", found: kind(other) }.into()),
    }
}

/// Why root must not act on the files of a directory with this owner and mode: other users can replace them.
#[must_use]
pub fn untrusted(uid: u32, mode: u32) -> Option<Unfit> {
    if !is_trusted(uid) {
        return Some(Unfit::Owner { uid, expected: rustix::process::geteuid().as_raw() });
    }
    is_open_to_all(mode).then_some(Unfit::OpenToAll(mode))
}

const fn is_open_to_all(mode: u32) -> bool {
    mode & ALL_WRITE != 0 && mode & STICKY == 0
}

fn check(path: &Path, found: &Found, wanted: u32, existing: Existing) -> io::Result<()> {
    let Found { stat, by_link, .. } = found;
    if !is_trusted(stat.st_uid) {
        let expected = rustix::process::geteuid().as_raw();
        return Err(Unfit::Owner { uid: stat.st_uid, expected }.into());
    }
    let mode = stat.st_mode & 0o7777;
    let may_change = !by_link && may_change(stat.st_uid);
    let change = match existing {
        Existing::Set => mode != wanted,
        Existing::Tighten => mode & OTHERS_WRITE != 0 && mode & STICKY == 0,
        Existing::Keep => false,
    };
    if change && may_change {
        let new = if existing == Existing::Set { wanted } else { mode & wanted };
        set(&found.fd, new)?;
        if mode & !wanted & 0o777 != 0 {
            tracing::warn!(
                "{} had the mode {mode:04o}; it is {new:04o} now. Check that it contains no files of other users",
                path.display()
            );
        }
    } else if is_open_to_all(mode) {
        return Err(Unfit::OpenToAll(mode).into());
    }
    Ok(())
}

/// Sets the mode of a directory that was just made.
fn set_new(path: &Path, mode: u32) -> io::Result<()> {
    let found = handle(path)?;
    let own = rustix::process::geteuid().as_raw();
    if found.by_link || found.stat.st_uid != own {
        return Err(Unfit::Owner { uid: found.stat.st_uid, expected: own }.into());
    }
    // A set-group-ID directory above gives its group and this bit to those below (mkdir(2)).
    if found.stat.st_mode & 0o777 == mode { Ok(()) } else { set(&found.fd, mode) }
}

/// A descriptor opened with `O_PATH` cannot change the mode.
fn set(dir: &OwnedFd, mode: u32) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(dir, ".", flags, Mode::empty())?;
    Ok(fchmod(dir, Mode::from_raw_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_and_those_above_it_get_their_modes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        make_dir(&path, 0o711, Existing::Tighten).unwrap();
        assert_eq!((mode_of(&path), mode_of(&place.path().join("a"))), (0o711, 0o755));
        make_dir(&path, 0o711, Existing::Tighten).unwrap();
    }

    #[test]
    fn an_existing_directory_is_set_tightened_or_kept() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("dir");
        let after = |before, existing| {
            make_dir(&path, 0o700, existing).unwrap();
            set_mode(&path, before);
            make_dir(&path, 0o711, existing).unwrap();
            mode_of(&path)
        };
        assert_eq!(after(0o700, Existing::Set), 0o711);
        assert_eq!(after(0o777, Existing::Set), 0o711);
        assert_eq!(after(0o777, Existing::Tighten), 0o711);
        assert_eq!(after(0o770, Existing::Tighten), 0o710);
        for unchanged in [0o700, 0o755, 0o1777] {
            assert_eq!(after(unchanged, Existing::Tighten), unchanged);
            assert_eq!(after(unchanged, Existing::Keep), unchanged);
        }
        set_mode(&path, 0o777);
        let error = make_dir(&path, 0o711, Existing::Keep).unwrap_err();
        assert_eq!(Unfit::of(&error), Some(&Unfit::OpenToAll(0o777)));
        assert_eq!(mode_of(&path), 0o777);
    }

    #[test]
    fn the_target_of_a_link_keeps_its_mode() {
        let place = tempfile::tempdir().unwrap();
        let (target, link) = (place.path().join("target"), place.path().join("link"));
        fs::create_dir(&target).unwrap();
        set_mode(&target, 0o755);
        symlink(&target, &link).unwrap();
        make_dir(&link, 0o700, Existing::Set).unwrap();
        assert_eq!(mode_of(&target), 0o755);
        set_mode(&target, 0o777);
        let error = make_dir(&link, 0o700, Existing::Set).unwrap_err();
        assert_eq!(Unfit::of(&error), Some(&Unfit::OpenToAll(0o777)));
        assert_eq!(mode_of(&target), 0o777);
        fs::remove_dir(&target).unwrap();
        assert!(make_dir(&link, 0o700, Existing::Set).is_err(), "a dangling link");
        assert!(!target.exists());
    }

    #[test]
    fn a_file_in_its_place_and_another_user_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, "").unwrap();
        let error = make_dir(&path, 0o700, Existing::Set).unwrap_err();
        assert!(error.to_string().contains("a regular file, not a directory"), "{error}");
        // Only root can give a directory away.
        if rustix::process::geteuid().is_root() {
            let dir = place.path().join("dir");
            fs::create_dir(&dir).unwrap();
            std::os::unix::fs::chown(&dir, Some(12_345), None).unwrap();
            let error = make_dir(&dir, 0o700, Existing::Set).unwrap_err();
            let unfit = Unfit::of(&error).unwrap();
            assert_eq!(*unfit, Unfit::Owner { uid: 12_345, expected: 0 });
            assert!(unfit.remedy(&dir).contains("chown 0 "), "{}", unfit.remedy(&dir));
        }
    }
}
