//! Configuration files, which survive a reboot: each is written atomically.

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Result;
use super::files::Files;

/// What may exist at the path before a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: an existing file is an error.
    Nothing,
    /// Anything: an existing file is replaced.
    Anything,
}

impl Files {
    /// Writes a file, and creates the directories above it. It is written under another name and renamed, so that no
    /// reader sees an incomplete file, and synced to disk before this returns (rename(2), fsync(2)).
    pub fn keep(&self, path: &str, text: &str, mode: Mode, before: Before) -> Result<()> {
        let (directory, name) = split(path);
        let directory = self.open_or_create(directory)?;
        let new = temporary(name);
        match rustix::fs::unlinkat(&directory, &new, AtFlags::empty()) {
            // An interrupted write may have left it.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let put = write_new(&directory, &new, text, mode).and_then(|()| {
            let flags = match before {
                Before::Nothing => RenameFlags::NOREPLACE,
                Before::Anything => RenameFlags::empty(),
            };
            rustix::fs::renameat_with(&directory, &new, &directory, name, flags)
        });
        if put.is_err() {
            // The first error is returned, not an error of this.
            let _ = rustix::fs::unlinkat(&directory, &new, AtFlags::empty());
        }
        put?;
        rustix::fs::fsync(&directory)
    }

    /// Removes a file. A missing file is not an error.
    pub fn forget(&self, path: &str) -> Result<()> {
        let (above, name) = split(path);
        let directory = match self.open(above, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        for name in [name, &temporary(name)] {
            match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        rustix::fs::fsync(&directory)
    }

    /// Removes a directory if it is empty.
    pub fn forget_empty(&self, path: &str) {
        let (above, name) = split(path);
        if let Ok(above) = self.open(above, OFlags::RDONLY | OFlags::DIRECTORY) {
            let _ = rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR);
        }
    }

    /// Opens a directory and locks it, waiting until it is free.
    pub fn locked(&self, path: &str) -> Result<OwnedFd> {
        let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        loop {
            match rustix::fs::flock(&directory, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                locked => return locked.map(|()| directory),
            }
        }
    }

    /// Opens a directory, and creates it if it does not exist.
    fn open_or_create(&self, path: &str) -> Result<OwnedFd> {
        let opened = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY);
        if opened.as_ref().err() != Some(&Errno::NOENT) || path == "." {
            return opened;
        }
        let (above, name) = split(path);
        let above = self.open_or_create(above)?;
        let mode = Mode::from_raw_mode(0o755);
        let created = match rustix::fs::mkdirat(&above, name, mode) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno),
        };
        rustix::fs::fsync(&above)?;
        let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if created {
            // Regardless of the umask, as for files.
            rustix::fs::fchmod(&directory, mode)?;
        }
        Ok(directory)
    }
}

/// A path's directory and its last component.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((".", path))
}

/// The name of a file while it is written.
fn temporary(name: &str) -> String {
    format!(".{name}.handover")
}

fn write_new(directory: &OwnedFd, name: &str, text: &str, mode: Mode) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, mode)?;
    let mut left = text.as_bytes();
    while !left.is_empty() {
        match rustix::io::write(&file, left) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    // Regardless of the umask: other users read it too.
    rustix::fs::fchmod(&file, mode)?;
    rustix::fs::fsync(&file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::root::Root;

    #[test]
    fn a_file_is_written_whole_and_replaces_another_only_if_requested() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(place.path()).unwrap();
        root.keep("etc/a/b/file", "one\n", 0o644, Before::Nothing).unwrap();
        let file = place.path().join("etc/a/b/file");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        // The remains of an interrupted write do not matter, and are removed.
        std::fs::write(place.path().join("etc/a/b/.file.handover"), "hal").unwrap();
        assert_eq!(root.keep("etc/a/b/file", "two\n", 0o644, Before::Nothing), Err(Errno::EXIST));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\n");
        root.keep("etc/a/b/file", "two\n", 0o755, Before::Anything).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two\n");
        assert_eq!(root.names("etc/a/b").unwrap(), ["file"]);
        root.keep("etc/a/other", "1\n", 0o644, Before::Nothing).unwrap();
        for _ in 0..2 {
            root.forget("etc/a/b/file").unwrap();
            root.forget_empty("etc/a/b");
            root.forget_empty("etc/a");
        }
        assert_eq!(root.names("etc/a").unwrap(), ["other"]);
    }

    #[test]
    fn no_link_leads_a_written_file_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        symlink(outside.path(), inside.path().join("etc")).unwrap();
        let root = Root::open(inside.path()).unwrap();
        // The link is resolved inside the root, where its target does not exist.
        assert!(root.keep("etc/file", "x", 0o644, Before::Anything).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
