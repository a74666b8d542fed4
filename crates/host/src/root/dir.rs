//! A directory of a host's, whatever holds it.

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

/// The most that is read of one attribute. sysfs gives a page at most; procfs files can be longer.
const ATTRIBUTE_LIMIT: usize = 64 << 10;

/// A directory of the host's, held open: what is read through it belongs to one and the same device.
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

/// Where what is read is noted, and under which path.
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

    /// Another handle of this directory, whose reads are not noted.
    pub(super) fn untraced(&self) -> std::io::Result<Self> {
        let form = match &self.form {
            Form::Files(files) => Form::Files(files.again()?),
            Form::Memory(place) => Form::Memory(place.clone()),
        };
        Ok(Self { form, traced: None })
    }

    /// This directory as a root whose reads are noted.
    pub(super) fn traced(self, trace: Arc<dyn Notes>) -> Self {
        Self { form: self.form, traced: Some(Traced { trace, at: String::new() }) }
    }

    pub(super) const fn is_traced(&self) -> bool {
        self.traced.is_some()
    }

    /// Lets the trace take note of what was done with a path.
    fn note(&self, path: &str, note: impl FnOnce(&dyn Notes, &str)) {
        if let Some(Traced { trace, at }) = &self.traced {
            note(trace.as_ref(), &format!("{at}/{path}"));
        }
    }

    /// Opens a directory. What is read through it in another host's tree stays below it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dir(&self, path: &str) -> Result<Self> {
        let form = match &self.form {
            Form::Files(files) => files.dir(path).map(Form::Files),
            Form::Memory(place) => place.dir(path).map(Form::Memory),
        };
        self.note(path, |trace, at| trace.looked(at, form.as_ref().err()));
        let traced = self.traced.as_ref().map(|Traced { trace, at }| Traced {
            trace: Arc::clone(trace),
            at: format!("{at}/{path}"),
        });
        Ok(Self { form: form?, traced })
    }

    /// Reads at most `limit` bytes of a file.
    ///
    /// # Errors
    /// The kernel's; `EFBIG` where the file is longer.
    pub fn bytes(&self, path: &str, limit: usize) -> Result<Vec<u8>> {
        let read = match &self.form {
            Form::Files(files) => files.bytes(path, limit),
            Form::Memory(place) => place.bytes(path, limit),
        };
        self.note(path, |trace, at| trace.read(at, read.as_deref().map_err(|errno| *errno)));
        read
    }

    /// Reads a file, without the white space around its text.
    ///
    /// # Errors
    /// The kernel's; `EILSEQ` where it is not UTF-8, `EFBIG` over 64 KiB.
    pub fn text(&self, path: &str) -> Result<String> {
        tidy(&self.bytes(path, ATTRIBUTE_LIMIT)?)
    }

    /// Reads a file whose path somebody else chose: it is really below this directory, with no link on the way.
    ///
    /// # Errors
    /// As [`text`](Self::text); `ELOOP` or `EXDEV` where it leads elsewhere.
    pub fn text_beneath(&self, path: &str) -> Result<String> {
        let read = match &self.form {
            Form::Files(files) => files.bytes_beneath(path, ATTRIBUTE_LIMIT),
            Form::Memory(place) => place.bytes(path, ATTRIBUTE_LIMIT),
        };
        self.note(path, |trace, at| trace.read(at, read.as_deref().map_err(|errno| *errno)));
        tidy(&read?)
    }

    /// Reads an attribute of sysfs as [`text`](Self::text) does, in one read: the kernel gives the whole of it, a page
    /// at most (Documentation/filesystems/sysfs.rst). A listing makes thousands of these.
    ///
    /// # Errors
    /// As [`text`](Self::text), `EFBIG` over a page.
    pub fn attribute(&self, path: &str) -> Result<String> {
        const PAGE: usize = 4096;
        let mut page = [0; PAGE + 1];
        let read = match &self.form {
            Form::Files(files) => files.start(path, &mut page),
            Form::Memory(place) => place.start(path, &mut page),
        };
        let bytes = read.and_then(|read| {
            page.get(..read).filter(|bytes| bytes.len() <= PAGE).ok_or(Errno::FBIG)
        });
        self.note(path, |trace, at| trace.read(at, bytes));
        bytes.and_then(tidy)
    }

    /// Where a symbolic link points, without following it.
    ///
    /// # Errors
    /// The kernel's; `EILSEQ` where it is not UTF-8.
    pub fn link(&self, path: &str) -> Result<String> {
        let target = match &self.form {
            Form::Files(files) => files.link(path),
            Form::Memory(place) => place.link(path),
        };
        self.note(path, |trace, at| trace.read_link(at, target.as_ref().err()));
        target
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
        self.list(path, false)
    }

    /// The names of the real directories in a directory, sorted: links are none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn directories(&self, path: &str) -> Result<Vec<String>> {
        self.list(path, true)
    }

    fn list(&self, path: &str, directories_only: bool) -> Result<Vec<String>> {
        let mut names = match &self.form {
            Form::Files(files) => files.names(path, directories_only),
            Form::Memory(place) => place.names(path, directories_only),
        };
        self.note(path, |trace, at| trace.listed(at, names.as_deref().map_err(|errno| *errno)));
        if let Ok(names) = &mut names {
            names.sort_unstable();
        }
        names
    }

    /// What a path is, following links.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat(&self, path: &str) -> Result<Status> {
        let status = self.status(path, true);
        self.note(path, |trace, at| trace.looked(at, status.as_ref().err()));
        status
    }

    /// What a path is; of a link, the link itself where it is not followed.
    pub(super) fn status(&self, path: &str, follow: bool) -> Result<Status> {
        match &self.form {
            Form::Files(files) => files.status(path, follow),
            Form::Memory(place) => place.status(path, follow),
        }
    }

    /// Whether something is there.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        let there = match &self.form {
            Form::Files(files) => files.exists(path),
            Form::Memory(place) => place.status(path, true).is_ok(),
        };
        self.note(path, |trace, at| trace.looked(at, None));
        there
    }

    /// The kind and number of the device that an open file (`/proc/PID/fd/N`) is, on the running system. In a
    /// container it can have any path. Elsewhere there is only its path.
    #[must_use]
    pub fn device(&self, path: &str) -> Option<(FileKind, (u32, u32))> {
        let Form::Files(files) = &self.form else { return None };
        let device = files.device(path);
        if let Some((kind, number)) = device {
            self.note(path, |trace, at| trace.is_device(at, kind, number));
        }
        device
    }

    /// Whether somebody has a block device for himself. It is open for an instant, and nothing is read.
    #[must_use]
    pub fn is_claimed(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let claimed = match &self.form {
            Form::Files(files) => files.is_claimed(path),
            Form::Memory(place) => place.is_claimed(path),
        };
        if claimed {
            self.note(path, |trace, at| trace.claimed(at));
        }
        claimed
    }

    /// Puts a text of our own into a recording that is being made, such as what a program says of its version; it is
    /// read as any other file. Does nothing where no recording is made.
    pub fn note_text(&self, path: &str, text: &str) {
        self.note(path, |trace, at| trace.own(at, text));
    }

    /// A handle for changing the nodes in the directory.
    ///
    /// # Errors
    /// `EROFS` in a recording.
    pub fn handle(&self) -> Result<BorrowedFd<'_>> {
        match &self.form {
            Form::Files(files) => Ok(files.as_fd()),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Writes a value to a file of the kernel's, in one write. It can block for as long as the kernel likes.
    ///
    /// # Errors
    /// The kernel's; `EROFS` in a recording.
    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        match &self.form {
            Form::Files(files) => files.write(path, value),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Puts a file of configuration in place whole, on the disk, with the directories above it.
    ///
    /// # Errors
    /// The kernel's; `EEXIST` where there is one and nothing may be there; `EROFS` in a recording.
    pub fn keep(&self, path: &str, text: &str, mode: u32, before: Before) -> Result<()> {
        match &self.form {
            Form::Files(files) => files.keep(path, text, Mode::from_raw_mode(mode), before),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Removes a file of configuration.
    ///
    /// # Errors
    /// The kernel's; `EROFS` in a recording.
    pub fn forget(&self, path: &str) -> Result<()> {
        match &self.form {
            Form::Files(files) => files.forget(path),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Removes a directory of configuration, unless anything is in it.
    pub fn forget_empty(&self, path: &str) {
        if let Form::Files(files) = &self.form {
            files.forget_empty(path);
        }
    }

    /// Locks a directory against others that lock it, until what this gives is dropped.
    ///
    /// # Errors
    /// The kernel's; `EROFS` in a recording.
    pub fn locked(&self, path: &str) -> Result<OwnedFd> {
        match &self.form {
            Form::Files(files) => files.locked(path),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }

    /// Writes a file whose path somebody else chose: it is really below this directory, with no link on the way.
    ///
    /// # Errors
    /// As [`write`](Self::write); `ELOOP` or `EXDEV` where the path leads elsewhere.
    pub fn write_beneath(&self, path: &str, value: &str) -> Result<()> {
        match &self.form {
            Form::Files(files) => files.write_beneath(path, value),
            Form::Memory(_) => Err(Errno::ROFS),
        }
    }
}

/// The text of a file without the white space around it.
fn tidy(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| Errno::ILSEQ)?;
    Ok(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
}
