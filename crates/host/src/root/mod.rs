//! The root of all paths in sysfs, procfs and devfs: an open directory, or a recording in memory.
//!
//! Under a root other than `/`, symbolic links are resolved inside it, like after `chroot` (`RESOLVE_IN_ROOT`,
//! openat2(2)): no link leads out of it.

mod dir;
mod files;
mod keep;
mod memory;
mod notes;
mod status;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

pub use dir::Dir;
pub use keep::Before;
pub use status::{FileKind, Status};
pub(crate) use trace::Trace;

use crate::archive;

/// This process's executable, which is started again as a worker. It is the running version even after the file on disk
/// was replaced.
pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// The result of every read.
pub type Result<T> = std::result::Result<T, Errno>;

/// The directory or recording with a host's `sys`, `proc` and `dev`.
#[derive(Debug)]
pub struct Root {
    top: Dir,
    path: PathBuf,
    host: bool,
}

impl Root {
    /// Opens a root: a directory, or a recording in a file.
    ///
    /// # Errors
    /// If it is neither a directory that can be opened nor a valid recording.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let host = path == Path::new("/");
        let path = path.to_owned();
        if !host && std::fs::metadata(&path)?.is_file() {
            return Ok(Self { path: path.clone(), ..Self::recording(std::fs::File::open(path)?)? });
        }
        Ok(Self { top: Dir::of_files(&path, host)?, path, host })
    }

    /// A recording, read from an archive.
    ///
    /// # Errors
    /// If it is not a valid recording.
    pub fn recording(archive: impl std::io::Read) -> std::io::Result<Self> {
        let tree = archive::unpack(archive).map_err(std::io::Error::other)?;
        let top = Dir::of_recording(Arc::new(tree));
        Ok(Self { top, path: PathBuf::from("/"), host: false })
    }

    /// The same root; all reads under it are recorded in a trace.
    pub(crate) fn traced(self) -> std::io::Result<(Self, Arc<Trace>)> {
        let source = self.top.untraced()?;
        let trace = Arc::new(Trace::new(source));
        let top = self.top.traced(trace.clone());
        Ok((Self { top, ..self }, trace))
    }

    /// Whether this is the running system.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.host
    }

    /// Whether reads are recorded. They must then happen in this process.
    #[must_use]
    pub const fn is_traced(&self) -> bool {
        self.top.is_traced()
    }

    /// The path of the root.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below the root, for messages.
    #[must_use]
    pub fn shown(&self, path: &str) -> String {
        self.path.join(path).display().to_string()
    }
}

impl std::ops::Deref for Root {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        &self.top
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_of_a_recording_leads_out_of_it() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let inside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(inside.path().join("sys/a")).unwrap();
        std::fs::write(inside.path().join("sys/a/inside"), "inside\n").unwrap();
        symlink(outside.path(), inside.path().join("sys/absolute")).unwrap();
        symlink("../../../../../../../../etc", inside.path().join("sys/upwards")).unwrap();
        symlink("../../../sys", inside.path().join("sys/a/up")).unwrap();
        let root = Root::open(inside.path()).unwrap();
        assert!(root.text("sys/absolute/secret").is_err());
        assert!(root.text("sys/upwards/passwd").is_err());
        assert!(root.text("../../../../../../etc/passwd").is_err());
        assert!(root.dir("sys/a").unwrap().text("up/a/inside").is_err());
        assert_eq!(root.link_name("sys/upwards").unwrap(), "etc");
        symlink("/sys/a", inside.path().join("sys/same")).unwrap();
        assert_eq!(root.text("sys/same/inside").unwrap(), "inside");
        assert_eq!(root.text("sys/a/up/a/inside").unwrap(), "inside");
    }

    /// The kernel returns EAGAIN for a path with `..` during a rename anywhere on the system.
    #[test]
    fn renames_elsewhere_hide_nothing() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("sys/bus/devices")).unwrap();
        std::fs::create_dir_all(place.path().join("sys/a")).unwrap();
        std::fs::write(place.path().join("sys/a/inside"), "inside\n").unwrap();
        symlink("../../a", place.path().join("sys/bus/devices/a")).unwrap();
        let root = Root::open(place.path()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (one, other) = (elsewhere.path().join("one"), elsewhere.path().join("other"));
        std::fs::write(&one, "").unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::fs::rename(&other, &one).unwrap();
                }
            });
            let seen: Vec<_> = (0..5000).map(|_| root.text("sys/bus/devices/a/inside")).collect();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(seen.iter().find(|text| text.as_deref() != Ok("inside")), None);
        });
    }

    #[test]
    fn reading_is_bounded_and_no_fifo_stops_it() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("long"), vec![b'x'; 100_000]).unwrap();
        std::fs::write(place.path().join("odd"), [0xff, 0xfe]).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, place.path().join("fifo"), mode).unwrap();
        let root = Root::open(place.path()).unwrap();
        assert_eq!(root.text("long"), Err(Errno::FBIG));
        assert_eq!(root.bytes("long", 100_000).unwrap().len(), 100_000);
        assert_eq!(root.text("odd"), Err(Errno::ILSEQ));
        assert_eq!(root.text("fifo").unwrap(), "");
        assert_eq!(root.text("nothing"), Err(Errno::NOENT));
    }
}
