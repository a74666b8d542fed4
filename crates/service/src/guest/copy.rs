//! Copies into and out of the guest of a container image.

use std::time::{Duration, SystemTime};

use api::{CopyDirection, CopyHeader, CopyMessage, CopyRequest};
use engine::guest_agent::{CopyOut, Entry, EntryKind, is_inner_path};
use engine::{Closer, CopyPart, Engine};
use model::Refusal;
use tokio::sync::{mpsc, oneshot};

use super::{connect, guest_path, thread, unforeseen};
use crate::refusals::invalid;

/// How many parts wait for the other side.
const PARTS: usize = 4;
/// The longest target of a link, in bytes (`PATH_MAX` in include/uapi/linux/limits.h).
const LONGEST_TARGET: usize = 4095;

/// A part of a copy on its way to or from a client.
#[derive(Debug)]
pub enum Part {
    /// What is said.
    Said(CopyMessage),
    /// Contents of a file.
    Data(Vec<u8>),
}

/// A copy that has begun.
#[derive(Debug)]
pub enum Copy {
    /// Into the guest.
    In(CopyIn),
    /// Out of the guest.
    Out(CopyOutOf),
}

/// Begins a copy.
///
/// # Errors
/// `invalid_request`; those of [`engine::Instances::guest_session`].
pub async fn open(engine: &Engine, key: &str, request: CopyRequest) -> Result<Copy, Refusal> {
    let path = guest_path(&request.guest_path)?;
    let first = match (request.direction, request.tree) {
        (CopyDirection::To, false) => Some(entry_of(only(&request))?),
        _ => None,
    };
    let session = connect(engine, key, Duration::ZERO).await?;
    let closer = session.closer()?;
    let (sender, receiver) = mpsc::channel::<CopyPart>(PARTS);
    let (ended, end) = oneshot::channel();
    if request.direction == CopyDirection::To {
        let mut parts = receiver;
        thread(move || {
            let mut first = first.map(CopyPart::Entry);
            let next = || first.take().or_else(|| parts.blocking_recv());
            let _ = ended.send(session.copy_in(&path, next));
        })?;
        return Ok(Copy::In(CopyIn { parts: sender, end, tree: request.tree, _closer: closer }));
    }
    let base = (!request.tree).then(|| last_component(&path).to_owned());
    let asked = CopyOut { path, follow_links: request.follow_links };
    thread(move || {
        let taken = session.copy_out(&asked, |part| sender.blocking_send(part).is_ok());
        let _ = ended.send(taken.map(|()| 0));
    })?;
    let nothing = format!("{:?} is no file, directory or link", asked_path(&request));
    let nothing = Some(invalid(nothing, "devices, pipes and sockets are not copied"));
    let out =
        CopyOutOf { parts: receiver, end, base, open: false, next: None, nothing, _closer: closer };
    Ok(Copy::Out(out))
}

fn asked_path(request: &CopyRequest) -> &str {
    &request.guest_path
}

/// A copy into the guest. When it is dropped before its end, the file that was being copied is not there.
#[derive(Debug)]
pub struct CopyIn {
    parts: mpsc::Sender<CopyPart>,
    end: oneshot::Receiver<Result<u64, Refusal>>,
    tree: bool,
    _closer: Closer,
}

impl CopyIn {
    /// Takes a part of the client's. After the last one, returns what the client is told.
    pub async fn take(&mut self, part: Part) -> Option<CopyMessage> {
        let (part, is_last) = match part {
            Part::Data(data) => (CopyPart::Data(data), false),
            Part::Said(CopyMessage::End { .. }) => (CopyPart::End, true),
            Part::Said(CopyMessage::Header(header)) if self.tree => match entry_of(header) {
                Ok(entry) => (CopyPart::Entry(entry), false),
                Err(refusal) => return Some(CopyMessage::Error(refusal.into())),
            },
            Part::Said(_) => {
                let refusal = invalid("this message has no place in a copy", "send data or an end");
                return Some(CopyMessage::Error(refusal.into()));
            }
        };
        let sent = self.parts.send(part).await;
        if sent.is_ok() && !is_last {
            return None;
        }
        // The guest has taken all, or takes no more.
        Some(match (&mut self.end).await {
            Ok(Ok(bytes_written)) => {
                CopyMessage::Result { success: true, error: None, bytes_written }
            }
            Ok(Err(refusal)) => {
                let error = Some(api::ErrorBody::from(refusal).message);
                CopyMessage::Result { success: false, error, bytes_written: 0 }
            }
            Err(error) => CopyMessage::Error(unforeseen(&error).into()),
        })
    }
}

/// A copy out of the guest.
#[derive(Debug)]
pub struct CopyOutOf {
    parts: mpsc::Receiver<CopyPart>,
    end: oneshot::Receiver<Result<u64, Refusal>>,
    /// What paths of headers begin with.
    base: Option<String>,
    /// Whether an entry has begun whose end was not said.
    open: bool,
    /// The entry after that.
    next: Option<Entry>,
    /// What is said if the guest has nothing to copy.
    nothing: Option<Refusal>,
    _closer: Closer,
}

impl CopyOutOf {
    /// The next part for the client; none after the last one. Can be dropped before it has ended, and called again.
    pub async fn next(&mut self) -> Option<Part> {
        if let Some(entry) = self.next.take() {
            return Some(self.begin(entry));
        }
        match self.parts.recv().await {
            Some(CopyPart::Data(data)) => Some(Part::Data(data)),
            Some(CopyPart::Entry(entry)) if self.open => {
                // Only now it is known that it was not the last one.
                self.next = Some(entry);
                self.open = false;
                Some(Part::Said(CopyMessage::End { r#final: false }))
            }
            Some(CopyPart::Entry(entry)) => Some(self.begin(entry)),
            Some(CopyPart::End) => {
                let nothing = self.nothing.take();
                self.parts.close();
                Some(Part::Said(match nothing {
                    Some(refusal) => CopyMessage::Error(refusal.into()),
                    None => CopyMessage::End { r#final: true },
                }))
            }
            None => {
                let ended = self.end.try_recv();
                let refusal = ended.ok().and_then(Result::err)?;
                Some(Part::Said(CopyMessage::Error(refusal.into())))
            }
        }
    }

    fn begin(&mut self, entry: Entry) -> Part {
        (self.open, self.nothing) = (true, None);
        Part::Said(CopyMessage::Header(header_of(entry, self.base.as_deref())))
    }
}

/// The header of a copy of one file or directory, as hypeman's clients ask for it.
fn only(request: &CopyRequest) -> CopyHeader {
    let usual = if request.is_dir { 0o755 } else { 0o644 };
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    CopyHeader {
        mode: request.mode.filter(|mode| *mode != 0).unwrap_or(usual),
        is_dir: request.is_dir,
        mtime: i64::try_from(now).unwrap_or(i64::MAX),
        uid: request.uid.unwrap_or(0),
        gid: request.gid.unwrap_or(0),
        ..CopyHeader::default()
    }
}

/// What is copied into the guest.
fn entry_of(header: CopyHeader) -> Result<Entry, Refusal> {
    let CopyHeader { path, mode, is_dir, is_symlink, link_target, mtime, uid, gid, .. } = header;
    if !is_inner_path(&path) {
        return Err(invalid(
            format!("{path:?} is not the path of something below the copied directory"),
            "write it without `..` and without `/` at its start",
        ));
    }
    let is_target = |target: &str| {
        !target.is_empty() && target.len() <= LONGEST_TARGET && !target.contains('\0')
    };
    let kind = match (is_dir, is_symlink) {
        (true, _) => EntryKind::Directory,
        (false, false) => EntryKind::Stream,
        (false, true) if is_target(&link_target) => EntryKind::Link { target: link_target },
        (false, true) => {
            let message = format!("the link {path:?} has no target that a link can have");
            return Err(invalid(message, "give it one of 4095 bytes at most"));
        }
    };
    Ok(Entry { path, kind, mode: mode & 0o7777, uid, gid, modified: mtime })
}

/// What is copied out of the guest. Its path was checked when it was read.
fn header_of(entry: Entry, base: Option<&str>) -> CopyHeader {
    let Entry { path, kind, mode, uid, gid, modified } = entry;
    let path = match base {
        Some(base) if path.is_empty() => base.to_owned(),
        Some(base) => format!("{base}/{path}"),
        None => path,
    };
    let (is_dir, size, link) = match kind {
        EntryKind::Directory => (true, 0, None),
        EntryKind::File { size } => (false, size, None),
        EntryKind::Stream => (false, 0, None),
        EntryKind::Link { target } => (false, 0, Some(target)),
    };
    CopyHeader {
        path,
        mode: mode & 0o7777,
        is_dir,
        is_symlink: link.is_some(),
        link_target: link.unwrap_or_default(),
        size,
        mtime: modified,
        uid,
        gid,
    }
}

/// The last component of a path; `.` for the root.
fn last_component(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty() && *part != ".").unwrap_or(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_entries_and_come_back() {
        let header = CopyHeader {
            path: "a/l".into(),
            mode: 0o10_4755,
            is_symlink: true,
            link_target: "/etc".into(),
            ..CopyHeader::default()
        };
        let entry = entry_of(header).unwrap();
        assert_eq!((entry.mode, &entry.kind), (0o4755, &EntryKind::Link { target: "/etc".into() }));
        let back = header_of(entry, Some("dir"));
        assert_eq!((back.path.as_str(), back.link_target.as_str()), ("dir/a/l", "/etc"));
        for path in ["../a", "/a", "a/..", "a\0"] {
            let header = CopyHeader { path: path.into(), ..CopyHeader::default() };
            assert!(entry_of(header).is_err(), "{path:?}");
        }
        let empty = CopyHeader { is_symlink: true, ..CopyHeader::default() };
        assert!(entry_of(empty).is_err());
    }

    #[test]
    fn names_are_those_of_the_copied_path() {
        for (path, name) in [("/a/b", "b"), ("/a/b/", "b"), ("/a/b/.", "b"), ("/", ".")] {
            assert_eq!(last_component(path), name);
        }
    }
}
