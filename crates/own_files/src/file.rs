//! Regular files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, statat};
use rustix::io::Errno;

use crate::{Unfit, is_trusted, may_change};

/// `O_NONBLOCK`: a FIFO or a device in the place of the file must not block.
const FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A regular file of Handover: who may own it, and its mode.
#[derive(Clone, Copy, Debug)]
pub struct OwnFile<'a> {
    path: &'a Path,
    mode: Option<u32>,
    owner: Owner,
}

/// The users that may own a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    RootOrUs,
    AlsoUser(u32),
    Anyone,
}

impl<'a> OwnFile<'a> {
    /// A file that belongs to root or to us. Its mode stays as it is.
    #[must_use]
    pub const fn at(path: &'a Path) -> Self {
        Self { path, mode: None, owner: Owner::RootOrUs }
    }

    /// It gets this mode when it is created, and when it is opened.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// It may also belong to this user.
    #[must_use]
    pub const fn or_of(mut self, user: u32) -> Self {
        self.owner = Owner::AlsoUser(user);
        self
    }

    /// It may belong to anyone: it is only read, or no other user can put a file there.
    #[must_use]
    pub const fn or_of_anyone(mut self) -> Self {
        self.owner = Owner::Anyone;
        self
    }

    /// Reads it, if it has at most `most` bytes.
    ///
    /// # Errors
    /// [`Unfit`], or that of the kernel.
    pub fn read(&self, most: u64) -> io::Result<Vec<u8>> {
        read_open(&self.open(OpenOptions::new().read(true))?, most)
    }

    /// Opens it, without following a link, and checks it before anything is changed. `options` must not truncate: that
    /// happens before the check.
    ///
    /// # Errors
    /// [`Unfit`], or that of the kernel.
    pub fn open(&self, options: &mut OpenOptions) -> io::Result<File> {
        // First by name: opening a device can have an effect. The descriptor decides.
        match statat(CWD, self.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.check(&stat)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        options.mode(self.mode.unwrap_or(0o600)).custom_flags(FLAGS.bits().cast_signed());
        let file = options.open(self.path).map_err(|error| {
            if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
                return Unfit::Link.into();
            }
            error
        })?;
        let stat = fstat(&file)?;
        self.check(&stat)?;
        self.set_mode(&file, &stat)?;
        Ok(file)
    }

    fn check(&self, stat: &Stat) -> io::Result<()> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(Unfit::Link.into()),
            other => {
                return Err(Unfit::Kind { expected: "regular file", found: kind(other) }.into());
            }
        }
        let accepted = match self.owner {
            Owner::RootOrUs => is_trusted(stat.st_uid),
            Owner::AlsoUser(user) => is_trusted(stat.st_uid) || user == stat.st_uid,
            Owner::Anyone => true,
        };
        if !accepted {
            let expected = rustix::process::geteuid().as_raw();
            return Err(Unfit::Owner { uid: stat.st_uid, expected }.into());
        }
        if stat.st_nlink > 1 && has_name_elsewhere(self.path, stat)? {
            return Err(Unfit::OtherName.into());
        }
        Ok(())
    }

    fn set_mode(&self, file: &File, stat: &Stat) -> io::Result<()> {
        let Some(wanted) = self.mode else { return Ok(()) };
        let mode = stat.st_mode & 0o7777;
        if mode == wanted || !may_change(stat.st_uid) {
            return Ok(());
        }
        Ok(fchmod(file, Mode::from_raw_mode(wanted))?)
    }
}

/// Whether a file has a name outside of its directory. The store has two names inside while a backup replaces it.
fn has_name_elsewhere(path: &Path, stat: &Stat) -> io::Result<bool> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut left = stat.st_nlink;
    for entry in std::fs::read_dir(dir)? {
        let Ok(metadata) = entry?.metadata() else { continue };
        if (metadata.dev(), metadata.ino()) == (stat.st_dev, stat.st_ino) {
            left = left.saturating_sub(1);
        }
    }
    Ok(left > 0)
}

/// Makes sure that a library which opens files by name, such as SQLite, finds a file of ours there: creates it, or
/// checks it and sets its mode. An existing file with its mode is not opened: closing a descriptor would release
/// the locks of this process on it (fcntl(2)).
///
/// # Errors
/// [`Unfit`], or that of the kernel.
pub fn claim(path: &Path, mode: u32) -> io::Result<()> {
    let own = OwnFile::at(path).mode(mode);
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => {
            own.check(&stat)?;
            if stat.st_mode & 0o7777 == mode || !may_change(stat.st_uid) {
                return Ok(());
            }
            own.open(OpenOptions::new().read(true)).map(drop)
        }
        Err(Errno::NOENT) => {
            let mut options = OpenOptions::new();
            own.open(options.write(true).create(true)).map(drop)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Checks a file that need not exist, as [`OwnFile::open`] does.
///
/// # Errors
/// [`Unfit`], or that of the kernel.
pub fn expect_ours(path: &Path) -> io::Result<()> {
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => OwnFile::at(path).check(&stat),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads an open file to its end, if that is at most `most` bytes away.
///
/// # Errors
/// [`Unfit::TooLong`], or that of the kernel.
pub fn read_open(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(Unfit::TooLong(most).into());
    }
    Ok(bytes)
}

/// Puts a file with this content and mode in the place of whatever is at the path, atomically. `unfinished` is the name
/// beside it under which it is written.
///
/// # Errors
/// That of the kernel.
pub fn replace_with(path: &Path, unfinished: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new: PathBuf = path.with_file_name(unfinished);
    match std::fs::remove_file(&new) {
        // An interrupted write may have left it.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = OwnFile::at(&new).mode(mode).open(options.write(true).create_new(true))?;
    let written = file.write_all(bytes).and_then(|()| std::fs::rename(&new, path));
    written.inspect_err(|_| {
        // The first error is returned, not an error of this.
        let _ = std::fs::remove_file(&new);
    })
}

/// The words for a kind of file.
pub fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "regular file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device node",
        _ => "file of an unknown kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn open(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        OwnFile::at(path).mode(0o600).open(options.read(true).write(true).create(true))
    }

    fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
        OwnFile::at(path).read(most)
    }

    fn why(result: io::Result<impl Sized>) -> Unfit {
        let error = result.err().unwrap();
        Unfit::of(&error).unwrap_or_else(|| panic!("{error}")).clone()
    }

    #[test]
    fn a_file_is_created_and_an_existing_one_gets_its_mode() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        open(&path).unwrap();
        assert_eq!(mode_of(&path), 0o600);
        for ensure in [|path: &Path| open(path).map(drop), |path: &Path| claim(path, 0o600)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
            ensure(&path).unwrap();
            assert_eq!(mode_of(&path), 0o600);
            ensure(&path).unwrap();
        }
        fs::remove_file(&path).unwrap();
        claim(&path, 0o644).unwrap();
        assert_eq!(mode_of(&path), 0o644);
    }

    #[test]
    fn no_link_leads_to_another_file() {
        let place = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (victim, path) = (elsewhere.path().join("victim"), place.path().join("file"));
        fs::write(&victim, "kept").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = |expected: &Unfit| {
            assert_eq!(why(open(&path)), *expected);
            assert_eq!(why(claim(&path, 0o600)), *expected);
            assert_eq!(why(expect_ours(&path)), *expected);
            assert_eq!(why(read(&path, 100)), *expected);
            assert_eq!(mode_of(&victim), 0o644);
            assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        };
        symlink(&victim, &path).unwrap();
        refused(&Unfit::Link);
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        refused(&Unfit::OtherName);
        fs::remove_file(&path).unwrap();
        symlink(elsewhere.path().join("absent"), &path).unwrap();
        assert_eq!(why(open(&path)), Unfit::Link);
        assert!(!elsewhere.path().join("absent").exists(), "it created the target of a link");
    }

    #[test]
    fn a_second_name_beside_the_first_is_no_danger() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, "").unwrap();
        fs::hard_link(&path, place.path().join("kept")).unwrap();
        open(&path).unwrap();
    }

    #[test]
    fn a_fifo_a_directory_and_another_user_are_refused_without_waiting() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("fifo");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(why(read(&path, 1)), Unfit::Kind { expected: "regular file", found: "FIFO" });
        let found = "directory";
        assert_eq!(why(open(place.path())), Unfit::Kind { expected: "regular file", found });
        if rustix::process::geteuid().is_root() {
            let path = place.path().join("other");
            fs::write(&path, "").unwrap();
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
            assert_eq!(why(open(&path)), Unfit::Owner { uid: 12_345, expected: 0 });
            let own = OwnFile::at(&path).or_of(12_345);
            own.open(OpenOptions::new().read(true)).unwrap();
            OwnFile::at(&path).or_of_anyone().read(0).unwrap();
        }
    }

    #[test]
    fn a_file_is_read_whole_or_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(why(read(&path, 4)), Unfit::TooLong(4));
    }

    #[test]
    fn a_file_takes_the_place_of_a_link_and_its_target_stays() {
        let place = tempfile::tempdir().unwrap();
        let (victim, path) = (place.path().join("victim"), place.path().join("file"));
        fs::write(&victim, "kept").unwrap();
        for name in ["file", ".new"] {
            symlink(&victim, place.path().join(name)).unwrap();
        }
        replace_with(&path, ".new", b"new", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(!path.is_symlink() && !place.path().join(".new").is_symlink());
        assert_eq!(mode_of(&path), 0o644);
    }
}
