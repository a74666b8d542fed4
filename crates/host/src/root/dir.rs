//! A directory of a host, in a file system or in a recording.

use std::path::Path;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;

use super::files::Files;
use super::keep::Before;
use super::memory::TreeDir;
use super::notes::Notes;
use super::{FileKind, Result, Status};
use crate::archive::Tree;

/// The most that is read of one attribute. sysfs returns a page at most; procfs files can be longer.
const ATTRIBUTE_LIMIT: usize = 64 << 10;

/// An open directory of the host: all reads through it are of the same device.
#[derive(Debug)]
pub struct Dir {
    form: Form,
    traced: Option<Traced>,
}

#[derive(Debug)]
enum Form {
    Files(Files),
    Memory(TreeDir),
}

/// The trace that records reads, and this directory's path in it.
#[derive(Clone, Debug)]
struct Traced {
    trace: Arc<dyn Notes>,
    at: String,
}

impl Dir {
    /// The root directory of a host or of a tree of files.
    pub(super) fn of_files(path: &Path, host: bool) -> std::io::Result<Self> {
        let files = Files::open_root(path, host)?;
        Ok(Self { form: Form::Files(files), traced: None })
    }

    /// The root directory of a recording.
    pub(crate) const fn of_recording(tree: Arc<Tree>) -> Self {
        Self { form: Form::Memory(TreeDir::top(tree)), traced: None }
    }

    /// Another handle of this directory, whose reads are not recorded.
    pub(super) fn untraced(&self) -> std::io::Result<Self> {
        let form = match &self.form {
            Form::Files(files) => Form::Files(files.again()?),
            Form::Memory(tree) => Form::Memory(tree.clone()),
        };
        Ok(Self { form, traced: None })
    }

    /// This directory as a root whose reads are recorded.
    pub(super) fn traced(self, trace: Arc<dyn Notes>) -> Self {
        Self { form: self.form, traced: Some(Traced { trace, at: String::new() }) }
    }

    pub(super) const fn is_traced(&self) -> bool {
        self.traced.is_some()
    }

    /// Records an operation on a path in the trace.
    fn note(&self, path: &str, note: impl FnOnce(&dyn Notes, &str)) {
        if let Some(Traced { trace, at }) = &self.traced {
            note(trace.as_ref(), &format!("{at}/{path}"));
        }
    }

    /// Opens a directory. For a root other than `/`, reads through it stay below it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dir(&self, path: &str) -> Result<Self> {
        let form = match &self.form {
            Form::Files(files) => files.dir(path).map(Form::Files),
            Form::Memory(tree) => tree.dir(path).map(Form::Memory),
        };
        self.note(path, |trace, at| trace.checked(at, form.as_ref().err()));
        let traced = self.traced.as_ref().map(|Traced { trace, at }| Traced {
            trace: Arc::clone(trace),
            at: format!("{at}/{path}"),
        });
        Ok(Self { form: form?, traced })
    }

    /// Reads at most `limit` bytes of a file.
    ///
    /// # Errors
    /// The kernel's; `EFBIG` if the file is longer.
    pub fn bytes(&self, path: &str, limit: usize) -> Result<Vec<u8>> {
        let read = match &self.form {
            Form::Files(files) => files.bytes(path, limit),
            Form::Memory(tree) => tree.bytes(path, limit),
        };
        self.note(path, |trace, at| trace.read(at, read.as_deref().map_err(|errno| *errno)));
        read
    }

    /// Reads the first bytes of a file that can be long; all of it for a recording, so that the recording has it whole.
    ///
    /// # Errors
    /// The kernel's; for a recording those of [`bytes`](Self::bytes).
    pub fn first(&self, path: &str, length: usize, longest: usize) -> Result<Vec<u8>> {
        if self.is_traced() {
            return self.bytes(path, longest);
        }
        let mut first = vec![0; length];
        let read = match &self.form {
            Form::Files(files) => files.first(path, &mut first),
            Form::Memory(tree) => tree.start(path, &mut first),
        };
        first.truncate(read?);
        Ok(first)
    }

    /// Reads a text file, without surrounding white space.
    ///
    /// # Errors
    /// The kernel's; `EILSEQ` if it is not UTF-8, `EFBIG` over 64 KiB.
    pub fn text(&self, path: &str) -> Result<String> {
        tidy(&self.bytes(path, ATTRIBUTE_LIMIT)?)
    }

    /// Reads a file with an untrusted path: it must be below this directory, without links in the path.
    ///
    /// # Errors
    /// As [`text`](Self::text); `ELOOP` or `EXDEV` if it leads elsewhere.
    pub fn text_beneath(&self, path: &str) -> Result<String> {
        let read = match &self.form {
            Form::Files(files) => files.bytes_beneath(path, ATTRIBUTE_LIMIT),
            Form::Memory(tree) => tree.bytes(path, ATTRIBUTE_LIMIT),
        };
        self.note(path, |trace, at| trace.read(at, read.as_deref().map_err(|errno| *errno)));
        tidy(&read?)
    }

    /// Reads a sysfs attribute like [`text`](Self::text), with a single read(2): the kernel returns the whole
    /// attribute, a page at most (Documentation/filesystems/sysfs.rst). A listing reads thousands.
    ///
    /// # Errors
    /// As [`text`](Self::text), `EFBIG` over a page.
    pub fn attribute(&self, path: &str) -> Result<String> {
        const PAGE: usize = 4096;
        let mut page = [0; PAGE + 1];
        let read = match &self.form {
            Form::Files(files) => files.start(path, &mut page),
            Form::Memory(tree) => tree.start(path, &mut page),
        };
        let bytes = read.and_then(|read| {
            page.get(..read).filter(|bytes| bytes.len() <= PAGE).ok_or(Errno::FBIG)
        });
        self.note(path, |trace, at| trace.read(at, bytes));
        bytes.and_then(tidy)
    }

    /// The target of a symbolic link, without following it.
    ///
    /// # Errors
    /// The kernel's; `EILSEQ` if it is not UTF-8.
    pub fn link(&self, path: &str) -> Result<String> {
        let target = match &self.form {
            Form::Files(files) => files.link(path),
            Form::Memory(tree) => tree.link(path),
        };
        self.note(path, |trace, at| trace.read_link(at, target.as_ref().err()));
        target
    }

    /// The last component of a symbolic link's target: the name of a driver, of a group, of a function.
    ///
    /// # Errors
    /// As [`link`](Self::link); `EINVAL` if it has none.
    pub fn link_name(&self, path: &str) -> Result<String> {
        let target = self.link(path)?;
        let name = target.rsplit('/').next().filter(|name| !name.is_empty());
        name.map(str::to_owned).ok_or(Errno::INVAL)
    }

    /// The names in a directory, sorted. Names that are not UTF-8 are skipped: the kernel creates none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn names(&self, path: &str) -> Result<Vec<String>> {
        self.list(path, false)
    }

    /// The names of the subdirectories in a directory, sorted, without links.
    ///
    /// # Errors
    /// The kernel's.
    pub fn directories(&self, path: &str) -> Result<Vec<String>> {
        self.list(path, true)
    }

    fn list(&self, path: &str, directories_only: bool) -> Result<Vec<String>> {
        let mut names = match &self.form {
            Form::Files(files) => files.names(path, directories_only),
            Form::Memory(tree) => tree.names(path, directories_only),
        };
        self.note(path, |trace, at| trace.listed(at, names.as_deref().map_err(|errno| *errno)));
        if let Ok(names) = &mut names {
            names.sort_unstable();
        }
        names
    }

    /// The status of a path, following links.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat(&self, path: &str) -> Result<Status> {
        let status = self.status(path, true);
        self.note(path, |trace, at| trace.checked(at, status.as_ref().err()));
        status
    }

    /// The status of a path; of a link itself unless `follow`.
    pub(super) fn status(&self, path: &str, follow: bool) -> Result<Status> {
        match &self.form {
            Form::Files(files) => files.status(path, follow),
            Form::Memory(tree) => tree.status(path, follow),
        }
    }

    /// Whether a path exists.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        let exists = match &self.form {
            Form::Files(files) => files.exists(path),
            Form::Memory(tree) => tree.status(path, true).is_ok(),
        };
        self.note(path, |trace, at| trace.checked(at, None));
        exists
    }

    /// The kind and number of the device behind an open file (`/proc/PID/fd/N`), on the running system. Its path is not
    /// enough: in a container a device can have any. Under another root there is only the path.
    #[must_use]
    pub fn device(&self, path: &str) -> Option<(FileKind, (u32, u32))> {
        let Form::Files(files) = &self.form else { return None };
        let device = files.device(path);
        if let Some((kind, number)) = device {
            self.note(path, |trace, at| trace.is_device(at, kind, number));
        }
        device
    }

    /// Whether a block device is claimed exclusively. Opens it for a moment, without reading.
    #[must_use]
    pub fn is_claimed(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let claimed = match &self.form {
            Form::Files(files) => files.is_claimed(path),
            Form::Memory(tree) => tree.is_claimed(path),
        };
        if claimed {
            self.note(path, |trace, at| trace.claimed(at));
        }
        claimed
    }

    /// Adds a file with this text to a recording in progress, for instance with the version of a program. Does nothing
    /// without a recording.
    pub fn note_text(&self, path: &str, text: &str) {
        self.note(path, |trace, at| trace.own(at, text));
    }

    /// A descriptor for changing the nodes in the directory.
    ///
    /// # Errors
    /// `EROFS` in a recording.
    pub fn handle(&self) -> Result<BorrowedFd<'_>> {
        match &self.form {
            Form::Files(files) => Ok(files.as_fd()),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Writes a value to a kernel file, with one write(2). It can block in the kernel without a limit.
    ///
    /// # Errors
    /// The kernel's; `EROFS` in a recording.
    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        match &self.form {
            Form::Files(files) => files.write(path, value),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Writes a configuration file atomically, synced to disk, and creates the directories above it.
    ///
    /// # Errors
    /// The kernel's; `EEXIST` if the file exists and must not; `EROFS` in a recording.
    pub fn keep(&self, path: &str, text: &str, mode: u32, before: Before) -> Result<()> {
        match &self.form {
            Form::Files(files) => files.keep(path, text, Mode::from_raw_mode(mode), before),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Removes a configuration file.
    ///
    /// # Errors
    /// The kernel's; `EROFS` in a recording.
    pub fn forget(&self, path: &str) -> Result<()> {
        match &self.form {
            Form::Files(files) => files.forget(path),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Removes a configuration directory if it is empty.
    pub fn forget_empty(&self, path: &str) {
        if let Form::Files(files) = &self.form {
            files.forget_empty(path);
        }
    }

    /// Locks a directory (flock(2)) until the result is dropped.
    ///
    /// # Errors
    /// The kernel's; `EROFS` in a recording.
    pub fn locked(&self, path: &str) -> Result<OwnedFd> {
        match &self.form {
            Form::Files(files) => files.locked(path),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Writes a file with an untrusted path: it must be below this directory, without links in the path.
    ///
    /// # Errors
    /// As [`write`](Self::write); `ELOOP` or `EXDEV` if the path leads elsewhere.
    pub fn write_beneath(&self, path: &str, value: &str) -> Result<()> {
        match &self.form {
            Form::Files(files) => files.write_beneath(path, value),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }
}

/// The text of a file without surrounding white space.
fn tidy(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| Errno::ILSEQ)?;
    Ok(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
}
