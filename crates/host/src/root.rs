//! Every path of sysfs, procfs and devfs hangs off one directory, held open.
//!
//! Under a root that is not `/` (a recorded host) symbolic links are resolved inside it, as by `chroot`
//! (`RESOLVE_IN_ROOT`, openat2(2)): no link of a recording leads out of it.

use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// The most that is read of one attribute. sysfs gives a page at most; procfs files can be longer.
const ATTRIBUTE_LIMIT: usize = 64 << 10;

/// This process's executable, by which it starts itself again as a worker. It stays right when the file on disk is
/// replaced by a newer one.
pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// What every reader answers.
pub type Result<T> = std::result::Result<T, Errno>;

/// The root under which a host's `sys`, `proc` and `dev` are.
#[derive(Debug)]
pub struct Root {
    top: Dir,
    path: PathBuf,
}

/// A directory of the host's, held open: what is read through it belongs to one and the same device.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    resolve: ResolveFlags,
}

impl Root {
    /// Opens the root.
    ///
    /// # Errors
    /// Where it is no directory that can be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let host = path == Path::new("/");
        let resolve = if host { ResolveFlags::empty() } else { ResolveFlags::IN_ROOT };
        Ok(Self { top: Dir { fd, resolve }, path: path.to_owned() })
    }

    /// Whether this is the running system itself and not a recording.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.top.resolve.is_empty()
    }

    /// Where the root is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below the root as a person would type it.
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

impl Dir {
    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if self.resolve.is_empty() {
            rustix::fs::openat(&self.fd, path, flags, Mode::empty())
        } else {
            rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), self.resolve)
        }
    }

    /// Opens a directory. What is read through it in a recording stays below it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dir(&self, path: &str) -> Result<Self> {
        let fd = self.open(path, OFlags::PATH | OFlags::DIRECTORY)?;
        let resolve = if self.resolve.is_empty() {
            ResolveFlags::empty()
        } else {
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
        };
        Ok(Self { fd, resolve })
    }

    /// Reads at most `limit` bytes of a file.
    ///
    /// # Errors
    /// The kernel's; `EFBIG` where the file is longer.
    pub fn bytes(&self, path: &str, limit: usize) -> Result<Vec<u8>> {
        // A FIFO or a device in a recording must not stop the reader.
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let mut bytes = Vec::with_capacity(4096.min(limit) + 1);
        while bytes.len() <= limit {
            let filled = bytes.len();
            bytes.resize((filled * 2).clamp(4096, limit + 1), 0);
            let read =
                retry(|| rustix::io::read(&file, bytes.get_mut(filled..).unwrap_or_default()))?;
            bytes.truncate(filled + read);
            if read == 0 {
                return Ok(bytes);
            }
        }
        Err(Errno::FBIG)
    }

    /// Reads a file, without the white space around its text.
    ///
    /// # Errors
    /// The kernel's; `EILSEQ` where it is not UTF-8, `EFBIG` over 64 KiB.
    pub fn text(&self, path: &str) -> Result<String> {
        tidy(&self.bytes(path, ATTRIBUTE_LIMIT)?)
    }

    /// Reads an attribute of sysfs as [`text`](Self::text) does, in one read: the kernel gives the whole of it, a page
    /// at most (Documentation/filesystems/sysfs.rst). A listing makes thousands of these.
    ///
    /// # Errors
    /// As [`text`](Self::text), `EFBIG` over a page.
    pub fn attribute(&self, path: &str) -> Result<String> {
        const PAGE: usize = 4096;
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let mut page = [0; PAGE + 1];
        let read = retry(|| rustix::io::read(&file, &mut page))?;
        page.get(..read).filter(|bytes| bytes.len() <= PAGE).ok_or(Errno::FBIG).and_then(tidy)
    }

    /// Where a symbolic link points, without following it.
    ///
    /// # Errors
    /// The kernel's; `EILSEQ` where it is not UTF-8.
    pub fn link(&self, path: &str) -> Result<String> {
        let target = if self.resolve.is_empty() {
            rustix::fs::readlinkat(&self.fd, path, Vec::new())?
        } else {
            let link = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
            rustix::fs::readlinkat(&link, "", Vec::new())?
        };
        target.into_string().map_err(|_| Errno::ILSEQ)
    }

    /// The last component of where a symbolic link points: the name of a driver, of a group, of a function.
    ///
    /// # Errors
    /// As [`link`](Self::link); `EINVAL` where it has none.
    pub fn link_name(&self, path: &str) -> Result<String> {
        let target = self.link(path)?;
        let name = target.rsplit('/').next().filter(|name| !name.is_empty());
        name.map(str::to_owned).ok_or(Errno::INVAL)
    }

    /// The names in a directory, sorted. Names that are not UTF-8 are left out: the kernel makes none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn names(&self, path: &str) -> Result<Vec<String>> {
        let dir = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(dir)? {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The names of the real directories in a directory, sorted: links are none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn directories(&self, path: &str) -> Result<Vec<String>> {
        let dir = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(dir)? {
            let entry = entry?;
            if entry.file_type() == FileType::Directory
                && let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What a path is, following links.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat(&self, path: &str) -> Result<Stat> {
        rustix::fs::fstat(self.open(path, OFlags::PATH)?)
    }

    /// Whether something is there.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    /// A handle that neither reads nor writes, for changing a node's owner and mode.
    ///
    /// # Errors
    /// The kernel's.
    pub fn handle(&self, path: &str) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH)
    }

    /// Whether somebody has a block device for himself. It is open for an instant, and nothing is read.
    #[must_use]
    pub fn is_claimed(&self, path: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK;
        self.open(path.trim_start_matches('/'), flags).is_err_and(|errno| errno == Errno::BUSY)
    }

    /// Writes a value to a file of the kernel's, in one write. It can block for as long as the kernel likes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        // As a shell's `>` opens it; the kernel's own files have no length to be cut.
        let file = self.open(path, OFlags::WRONLY | OFlags::TRUNC | OFlags::NOCTTY)?;
        // Not tried again after a signal: the kernel may have done it.
        match rustix::io::write(&file, value.as_bytes())? {
            written if written == value.len() => Ok(()),
            _ => Err(Errno::IO),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The text of a file without the white space around it.
fn tidy(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| Errno::ILSEQ)?;
    Ok(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
}

/// Makes a call again that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
