//! Reserving functions for the next boot: the files of [`model::reserve`] are written, and taken away.
//!
//! These are files of configuration, and no state of the kernel's: nothing of them is undone after a crash. Each is put
//! whole in its place, those that put the list to work after what they need, so that whoever is cut off leaves what was
//! before or what was to be, and the same command again finishes it.

use model::HostError;
use model::boot_list::{File, LIST, entries, files};
use model::doctor::InitramfsTool;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::problem;
use crate::root::{Before, Root};

/// Those of which files may lie here: a host can have changed its tool.
const TOOLS: [InitramfsTool; 3] =
    [InitramfsTool::InitramfsTools, InitramfsTool::Dracut, InitramfsTool::Mkinitcpio];

/// A change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is written, or replaced.
    Write {
        /// Where, below the root.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// What is in it then.
        text: String,
    },
    /// It is removed.
    Remove {
        /// Where, below the root.
        path: String,
    },
}

/// Why the files cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum BootListError {
    /// A file is there that is not Handover's.
    #[error("{path} is there and is not Handover's: it does not say that Handover wrote it")]
    Foreign {
        /// Its path.
        path: String,
    },
    /// A file cannot be read or changed.
    #[error("{0}")]
    Host(#[from] HostError),
}

/// The list as it is; empty where there is none.
///
/// # Errors
/// Where it cannot be read.
pub fn list(root: &Root) -> Result<String, HostError> {
    Ok(read(root, LIST)?.unwrap_or_default())
}

/// Keeps others that reserve from changing the list until it is dropped.
///
/// # Errors
/// Where the root has no `etc`.
pub fn lock(root: &Root) -> Result<OwnedFd, HostError> {
    let path = "etc";
    root.locked(path).map_err(|errno| problem::file(root, "lock", path, errno))
}

/// What has to change for this list to hold, in the order in which it is to be done. Nothing where all is so.
///
/// # Errors
/// A file of somebody else's in the place of one of ours; where one cannot be read.
pub fn changes(
    root: &Root,
    tool: InitramfsTool,
    wanted: &str,
) -> Result<Vec<Change>, BootListError> {
    let mut all = Vec::new();
    let list = read(root, LIST)?;
    if !entries(wanted).is_empty() {
        if list.as_deref() != Some(wanted) {
            all.push(Change::Write { path: below(LIST), mode: 0o644, text: wanted.into() });
        }
        for file in files(tool) {
            let found = ours(root, file)?;
            if found.as_deref().map(str::trim_end) != Some(file.text.trim_end()) {
                let (path, mode, text) = (below(file.path), file.mode, file.text.into());
                all.push(Change::Write { path, mode, text });
            }
        }
        return Ok(all);
    }
    let mut done: Vec<&str> = Vec::new();
    for file in TOOLS.iter().flat_map(|tool| files(*tool).iter().rev()) {
        // The script is every tool's.
        if !done.contains(&file.path)
            && read(root, file.path)?.is_some_and(|text| File::is_ours(&text))
        {
            done.push(file.path);
        }
    }
    done.sort_by_key(|path| path.starts_with("/etc/handover/"));
    all.extend(done.into_iter().map(|path| Change::Remove { path: below(path) }));
    match list {
        None => {}
        // A person's own lines stay.
        Some(list) if !wanted.trim().is_empty() => {
            let change = Change::Write { path: below(LIST), mode: 0o644, text: wanted.into() };
            all.extend((list != wanted).then_some(change));
        }
        Some(_) => all.push(Change::Remove { path: below(LIST) }),
    }
    Ok(all)
}

/// Makes one change; made twice, it is made once.
///
/// # Errors
/// The kernel's.
pub fn make(root: &Root, change: &Change) -> Result<(), HostError> {
    match change {
        Change::Write { path, mode, text } => root
            .keep(path, text, *mode, Before::Anything)
            .map_err(|errno| problem::file(root, "write", path, errno)),
        Change::Remove { path } => {
            root.forget(path).map_err(|errno| problem::file(root, "remove", path, errno))?;
            let own = path.rsplit_once('/').map(|(directory, _)| directory);
            own.filter(|own| own.ends_with("handover"))
                .into_iter()
                .for_each(|own| root.forget_empty(own));
            Ok(())
        }
    }
}

impl Change {
    /// The file that is changed.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Write { path, .. } | Self::Remove { path } => path,
        }
    }
}

/// What is in the place of one of our files.
fn ours(root: &Root, file: &File) -> Result<Option<String>, BootListError> {
    let found = read(root, file.path)?;
    if found.as_deref().is_some_and(|text| !File::is_ours(text)) {
        return Err(BootListError::Foreign { path: root.shown(&below(file.path)) });
    }
    Ok(found)
}

/// A file's text as it is, with its last line end; `None` where there is none.
fn read(root: &Root, path: &str) -> Result<Option<String>, HostError> {
    let path = below(path);
    let failed = |errno| problem::file(root, "read", &path, errno);
    match root.bytes(&path, 1 << 20) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| failed(Errno::ILSEQ)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// Every path hangs off the root.
fn below(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}
