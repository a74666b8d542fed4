//! The boot list: writing and removing the files of [`model::boot_list`].
//!
//! These are configuration files, not kernel state: nothing is undone after a crash. Each is replaced atomically, and
//! the files that apply the list are written after those that they need. An interrupted change leaves each file old or
//! new, and repeating the command completes it.

use model::HostError;
use model::boot_list::{File, LIST, entries, files};
use model::doctor::InitramfsTool;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::root::{Before, Root};
use crate::{config_files, problem};

/// All tools that may have left files here: a host can change its tool.
const TOOLS: [InitramfsTool; 3] =
    [InitramfsTool::InitramfsTools, InitramfsTool::Dracut, InitramfsTool::Mkinitcpio];

/// A change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Write or replace the file.
    Write {
        /// Its path below the root.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// Its new contents.
        text: String,
    },
    /// Remove the file.
    Remove {
        /// Its path below the root.
        path: String,
    },
}

/// An error while the files are changed.
#[derive(Debug, thiserror::Error)]
pub enum BootListError {
    /// A file exists that is not Handover's.
    #[error("{path} was not written by Handover: it lacks Handover's header line")]
    Foreign {
        /// Its path.
        path: String,
    },
    /// A file cannot be read or changed.
    #[error("{0}")]
    Host(#[from] HostError),
}

/// The text of the list; empty if there is none.
///
/// # Errors
/// If it cannot be read.
pub fn list(root: &Root) -> Result<String, HostError> {
    Ok(read(root, LIST)?.unwrap_or_default())
}

/// Locks the list against other processes that change it, until dropped.
///
/// # Errors
/// If the root has no `etc`.
pub fn lock(root: &Root) -> Result<OwnedFd, HostError> {
    let path = "etc";
    root.locked(path).map_err(|errno| problem::file(root, "lock", path, errno))
}

/// The changes that make this list effective, in the order in which they must be applied; empty if there are none.
///
/// # Errors
/// If another tool's file has the path of one of ours, or a file cannot be read.
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
        // All tools share the script.
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
        // An administrator's own lines stay.
        Some(list) if !wanted.trim().is_empty() => {
            let change = Change::Write { path: below(LIST), mode: 0o644, text: wanted.into() };
            all.extend((list != wanted).then_some(change));
        }
        Some(_) => all.push(Change::Remove { path: below(LIST) }),
    }
    Ok(all)
}

/// Applies one change. It is idempotent.
///
/// # Errors
/// If the file cannot be changed.
pub fn apply(root: &Root, change: &Change) -> Result<(), HostError> {
    match change {
        Change::Write { path, mode, text } => {
            config_files::write(root, path, text, *mode, Before::Anything)
        }
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
    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Write { path, .. } | Self::Remove { path } => path,
        }
    }
}

/// The contents of one of our files; an error if another tool wrote it.
fn ours(root: &Root, file: &File) -> Result<Option<String>, BootListError> {
    let found = read(root, file.path)?;
    if found.as_deref().is_some_and(|text| !File::is_ours(text)) {
        return Err(BootListError::Foreign { path: root.shown(&below(file.path)) });
    }
    Ok(found)
}

/// A file's whole text, with its last newline; `None` if the file does not exist.
fn read(root: &Root, path: &str) -> Result<Option<String>, HostError> {
    let path = below(path);
    let failed = |errno| problem::file(root, "read", &path, errno);
    match root.bytes(&path, 1 << 20) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| failed(Errno::ILSEQ)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// The path relative to the root.
fn below(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}
