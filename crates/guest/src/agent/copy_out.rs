//! Copies files of the guest to the host.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use guest_protocol::message::{CopyOut, Entry, EntryKind, FromGuest};
use guest_protocol::{MAX_PAYLOAD, ProtocolError};
use rustix::fs::OFlags;

use super::answers::Answers;

/// Why a copy ends early.
enum Failure {
    /// The client is gone.
    Client(ProtocolError),
    /// A file cannot be read.
    File(String),
}

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        Self::Client(error)
    }
}

/// Sends a file, or a directory and all below it. Devices, sockets and pipes are left out.
pub fn send(request: &CopyOut, answers: &Answers) -> Result<(), ProtocolError> {
    match walk(request, answers) {
        Ok(()) => answers.say(&FromGuest::End),
        Err(Failure::Client(error)) => Err(error),
        Err(Failure::File(message)) => answers.refuse("failed", &message),
    }
}

fn walk(request: &CopyOut, answers: &Answers) -> Result<(), Failure> {
    let root = Path::new(&request.path);
    let metadata =
        if request.follow_links { fs::metadata(root) } else { fs::symlink_metadata(root) };
    let metadata = metadata.map_err(failed(root))?;
    let mut left = vec![(PathBuf::new(), metadata)];
    while let Some((inner, metadata)) = left.pop() {
        let path = if inner.as_os_str().is_empty() { root.to_owned() } else { root.join(&inner) };
        let name = inner.to_str().ok_or_else(|| {
            Failure::File(format!(
                "the name of {} is not UTF-8, and cannot be copied",
                path.display()
            ))
        })?;
        if metadata.is_dir() {
            answers.say(&FromGuest::Entry(entry(name, &metadata, EntryKind::Directory)))?;
            left.extend(children(&path, &inner)?);
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(failed(&path))?;
            let target = target.to_string_lossy().into_owned();
            answers.say(&FromGuest::Entry(entry(name, &metadata, EntryKind::Link { target })))?;
        } else if metadata.is_file() {
            send_file(&path, name, request.follow_links && name.is_empty(), answers)?;
        }
    }
    Ok(())
}

/// What is in a directory, the last first: the walk takes from the end.
fn children(path: &Path, inner: &Path) -> Result<Vec<(PathBuf, Metadata)>, Failure> {
    let mut found = Vec::new();
    for child in fs::read_dir(path).map_err(failed(path))? {
        let child = child.map_err(failed(path))?;
        // What was removed in the meantime is not there.
        if let Ok(metadata) = child.metadata() {
            found.push((inner.join(child.file_name()), metadata));
        }
    }
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    Ok(found)
}

fn send_file(path: &Path, name: &str, follow: bool, answers: &Answers) -> Result<(), Failure> {
    let mut flags = OFlags::NONBLOCK;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let flags = flags.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut file = file.map_err(failed(path))?;
    let metadata = file.metadata().map_err(failed(path))?;
    let size = metadata.len();
    answers.say(&FromGuest::Entry(entry(name, &metadata, EntryKind::File { size })))?;
    send_contents(&mut file, path, size, answers)
}

/// Exactly as many bytes as were announced.
fn send_contents(
    file: &mut File,
    path: &Path,
    size: u64,
    answers: &Answers,
) -> Result<(), Failure> {
    let mut left = size;
    let mut buffer = vec![0; MAX_PAYLOAD];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD);
        let room = buffer.get_mut(..most).unwrap_or_default();
        let length = file.read(room).map_err(failed(path))?;
        if length == 0 {
            let message = format!("{} became shorter while it was copied", path.display());
            return Err(Failure::File(message));
        }
        answers.say(&FromGuest::Data(room.get(..length).unwrap_or_default().to_vec()))?;
        left = left.saturating_sub(u64::try_from(length).unwrap_or(left));
    }
    Ok(())
}

fn entry(name: &str, metadata: &Metadata, kind: EntryKind) -> Entry {
    Entry {
        path: name.to_owned(),
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified: metadata.mtime(),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::File(format!("cannot read {path}: {error}"))
}
