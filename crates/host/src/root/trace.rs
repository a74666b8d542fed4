//! A trace of all reads under a root, for a recording.
//!
//! A path is recorded with every link in it, so that reading the recording resolves it in the same way. Files that are
//! only listed are recorded without their contents.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::notes::Notes;
use super::{Dir, FileKind, Result, Status};
use crate::archive::{Entries, Entry, Kind, components};

/// The most links in one path, as in the kernel (path_resolution(7)).
const LINKS: u32 = 40;

/// A trace of reads, and their source.
#[derive(Debug)]
pub struct Trace {
    source: Dir,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    entries: Entries,
    /// Resolved paths of directories, a cache: thousands of reads have the same directory.
    resolved: HashMap<String, String>,
}

impl Notes for Trace {
    fn checked(&self, path: &str, error: Option<&Errno>) {
        self.note_error(path, error.copied());
    }

    fn read_link(&self, path: &str, error: Option<&Errno>) {
        let mut seen = self.seen();
        if let Ok(path) = self.walk(&mut seen, path, false)
            && error.is_some_and(|errno| *errno != Errno::INVAL)
        {
            fail(&mut seen.entries, &path, error.copied());
        }
    }

    fn read(&self, path: &str, content: Result<&[u8]>) {
        let content = match content {
            Ok(content) => content,
            Err(errno) => return self.note_error(path, Some(errno)),
        };
        let mut seen = self.seen();
        let Ok(path) = self.walk(&mut seen, path, true) else { return };
        if let Some(entry) = seen.entries.files.get_mut(&path) {
            let known = match &entry.kind {
                Kind::File(Some(known)) => known.len(),
                _ => 0,
            };
            // Of several reads of a file the longest is kept.
            if content.len() >= known {
                entry.kind = Kind::File(Some(content.to_vec()));
            }
            entry.error = None;
        }
    }

    fn listed(&self, path: &str, names: Result<&[String]>) {
        let names = match names {
            Ok(names) => names,
            Err(errno) => return self.note_error(path, Some(errno)),
        };
        let mut seen = self.seen();
        let Ok(path) = self.walk(&mut seen, path, true) else { return };
        let at = if path.is_empty() { "." } else { &path };
        let Ok(directory) = self.source.dir(at) else { return };
        for name in names {
            // It may be gone by now.
            let _ = note(&mut seen.entries, join(&path, name), &directory, name);
        }
    }

    fn is_device(&self, path: &str, kind: FileKind, number: (u32, u32)) {
        let mut seen = self.seen();
        if let Ok(path) = self.walk(&mut seen, path, false) {
            seen.entries.open_devices.insert(path, (kind == FileKind::Block, number));
        }
    }

    fn claimed(&self, path: &str) {
        let path: Vec<&str> = components(path).collect();
        self.seen().entries.claimed.insert(path.join("/"));
    }

    fn own(&self, path: &str, text: &str) {
        let path: Vec<&str> = components(path).collect();
        let kind = Kind::File(Some(text.as_bytes().to_vec()));
        self.seen()
            .entries
            .files
            .insert(path.join("/"), Entry { kind, mode: 0o644, ..Entry::default() });
    }
}

impl Trace {
    pub(super) fn new(source: Dir) -> Self {
        Self { source, seen: Mutex::default() }
    }

    /// Takes everything recorded so far.
    pub fn take(&self) -> Entries {
        std::mem::take(&mut self.seen().entries)
    }

    /// The source, for reads that are not recorded.
    pub fn source(&self) -> &Dir {
        &self.source
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_error(&self, path: &str, error: Option<Errno>) {
        let mut seen = self.seen();
        if let Ok(path) = self.walk(&mut seen, path, true) {
            fail(&mut seen.entries, &path, error);
        }
    }

    /// Records everything along a path; returns the resolved path.
    fn walk(&self, seen: &mut Seen, path: &str, follow: bool) -> Result<String> {
        let (before, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") {
            return self.walk_from(&mut seen.entries, String::new(), path, follow);
        }
        let at = match seen.resolved.get(before) {
            Some(at) => at.clone(),
            None => {
                let at = self.walk_from(&mut seen.entries, String::new(), before, true)?;
                seen.resolved.insert(before.to_owned(), at.clone());
                at
            }
        };
        self.walk_from(&mut seen.entries, at, name, follow)
    }

    fn walk_from(
        &self,
        seen: &mut Entries,
        mut at: String,
        path: &str,
        follow: bool,
    ) -> Result<String> {
        let mut ahead: Vec<String> = components(path).rev().map(str::to_owned).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let next = join(&at, &name);
            let target = match self.record(seen, &next) {
                Ok(()) => seen.files.get(&next).and_then(Entry::target),
                Err(errno) => {
                    // The directory exists, but its contents cannot be read.
                    fail(seen, &at, Some(errno));
                    return Err(errno);
                }
            };
            match target {
                Some(target) if follow || !ahead.is_empty() => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP);
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    ahead.extend(components(&target).rev().map(str::to_owned));
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// Records one file by its resolved path, unless it is known already.
    fn record(&self, seen: &mut Entries, path: &str) -> Result<()> {
        if seen.files.contains_key(path) {
            return Ok(());
        }
        note(seen, path.to_owned(), &self.source, path)
    }
}

/// Records the file with this name in a directory.
fn note(seen: &mut Entries, path: String, directory: &Dir, name: &str) -> Result<()> {
    if seen.files.contains_key(&path) {
        return Ok(());
    }
    let Status { kind, mode, uid, gid, number, .. } = directory.status(name, false)?;
    let kind = match kind {
        FileKind::Directory => Kind::Directory,
        FileKind::Link => Kind::Link(directory.link(name)?),
        FileKind::File => Kind::File(None),
        FileKind::Character => Kind::Device { block: false, number },
        FileKind::Block => Kind::Device { block: true, number },
        FileKind::Other => Kind::Other,
    };
    seen.files.insert(path, Entry { kind, mode, uid, gid, error: None });
    Ok(())
}

/// Records an error of an existing file. A missing file needs no entry, and a link that leads out of the root (`EXDEV`)
/// has its own entry.
fn fail(seen: &mut Entries, path: &str, error: Option<Errno>) {
    let Some(errno) = error else { return };
    if matches!(errno, Errno::NOENT | Errno::XDEV | Errno::NOTDIR) {
        return;
    }
    if let Some(entry) = seen.files.get_mut(path)
        && !matches!(entry.kind, Kind::File(Some(_)))
    {
        entry.error = Some(errno);
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") }
}
