//! Copies files of the host into the guest.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use guest_protocol::ProtocolError;
use guest_protocol::message::{
    CopyIn, Entry, EntryKind, FromGuest, Message, ToGuest, read_message,
};

use super::answers::Answers;

/// Receives entries until the copy ends. After an error the rest is read and left out, and the error is the answer.
pub fn receive(
    request: &CopyIn,
    from: &mut impl Read,
    answers: &Answers,
) -> Result<(), ProtocolError> {
    let mut outcome = Ok(());
    let mut open: Option<Target> = None;
    loop {
        let message = read_message::<ToGuest>(from)?.ok_or(ProtocolError::CutOff("the copy"))?;
        match message {
            ToGuest::Entry(entry) if open.is_none() => {
                if outcome.is_ok() {
                    outcome = begin(&request.path, &entry, &mut open);
                }
                // The data of a file that is left out comes all the same.
                open = open.or(match entry.kind {
                    EntryKind::File { size: size @ 1.. } => Some(Target::nowhere(Some(size))),
                    EntryKind::Stream => Some(Target::nowhere(None)),
                    _ => None,
                });
            }
            ToGuest::Data(data) if open.is_some() => {
                let written = open.as_mut().map_or(Ok(false), |target| target.write(&data));
                let complete = match written {
                    Ok(complete) => complete,
                    Err(failure) => {
                        let first = outcome.is_ok();
                        if first {
                            outcome = Err(failure);
                        }
                        open = open.map(|target| Target::nowhere(target.left));
                        open.as_ref().is_some_and(|target| target.left == Some(0))
                    }
                };
                if complete && let Some(target) = open.take() {
                    let finished = target.finish();
                    outcome = outcome.and(finished);
                }
            }
            ToGuest::End if open.is_none() => break,
            other => {
                let (got, wanted) = (other.name(), "an entry or its data");
                return Err(ProtocolError::Unexpected { got, wanted });
            }
        }
    }
    match outcome {
        Ok(()) => answers.say(&FromGuest::Done),
        Err(message) => answers.refuse("failed", &message),
    }
}

/// Makes a directory or a link, or begins a file.
fn begin(root: &str, entry: &Entry, open: &mut Option<Target>) -> Result<(), String> {
    let path =
        if entry.path.is_empty() { PathBuf::from(root) } else { Path::new(root).join(&entry.path) };
    let failed = |error: io::Error| format!("cannot write {}: {error}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match &entry.kind {
        EntryKind::Directory => {
            if !path.is_dir() {
                fs::create_dir(&path).map_err(failed)?;
            }
            chown(&path, Some(entry.uid), Some(entry.gid)).map_err(failed)?;
            fs::set_permissions(&path, permissions(entry)).map_err(failed)
        }
        EntryKind::Link { target } => {
            if path.symlink_metadata().is_ok() {
                fs::remove_file(&path).map_err(failed)?;
            }
            symlink(target, &path).map_err(failed)?;
            lchown(&path, Some(entry.uid), Some(entry.gid)).map_err(failed)
        }
        EntryKind::File { size } => {
            let target = Target::begin(&path, entry, Some(*size)).map_err(failed)?;
            if *size == 0 {
                return target.finish();
            }
            *open = Some(target);
            Ok(())
        }
        EntryKind::Stream => {
            *open = Some(Target::begin(&path, entry, None).map_err(failed)?);
            Ok(())
        }
    }
}

fn permissions(entry: &Entry) -> fs::Permissions {
    fs::Permissions::from_mode(entry.mode & 0o7777)
}

/// A file that is being written. It replaces an older one when it is complete.
struct Target {
    /// None: the data is read and left out.
    file: Option<(File, PathBuf, PathBuf)>,
    /// How much data comes; none: until there is data without a byte.
    left: Option<u64>,
    /// Set at the end: writing changes it.
    modified: Option<SystemTime>,
}

/// A time in seconds since 1970; none if the kernel has no such time.
fn time_of(seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}

/// A name that no other copy has, and that is short whatever the file is called.
fn draft_name() -> io::Result<String> {
    let mut random = [0; 8];
    if rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())? < random.len() {
        return Err(io::Error::other("the kernel has no random numbers"));
    }
    Ok(format!(".handover-{:016x}", u64::from_ne_bytes(random)))
}

impl Target {
    fn nowhere(left: Option<u64>) -> Self {
        Self { file: None, left, modified: None }
    }

    fn begin(path: &Path, entry: &Entry, left: Option<u64>) -> io::Result<Self> {
        if path.is_dir() {
            return Err(io::Error::other("a directory is there"));
        }
        let draft = path.with_file_name(draft_name()?);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let modified = time_of(entry.modified);
        let target = Self { file: Some((file, draft, path.to_owned())), left, modified };
        if let Some((file, ..)) = &target.file {
            std::os::unix::fs::fchown(file, Some(entry.uid), Some(entry.gid))?;
            file.set_permissions(permissions(entry))?;
        }
        Ok(target)
    }

    /// Writes data; whether the file is complete.
    fn write(&mut self, data: &[u8]) -> Result<bool, String> {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if let Some(left) = &mut self.left {
            let too_much = length > *left;
            *left = left.saturating_sub(length);
            if too_much || length == 0 {
                return Err("the data is not of the size that was said".to_owned());
            }
        }
        if let Some((file, _, path)) = &mut self.file {
            file.write_all(data)
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(self.left.map_or(length == 0, |left| left == 0))
    }

    /// Puts the file in its place.
    fn finish(mut self) -> Result<(), String> {
        let Some((file, draft, path)) = &self.file else { return Ok(()) };
        if let Some(time) = self.modified {
            file.set_modified(time)
                .map_err(|error| format!("cannot set the time of {}: {error}", path.display()))?;
        }
        let moved = match fs::rename(draft, path) {
            Ok(()) => {
                self.file = None;
                return Ok(());
            }
            // A file that is a mount of its own, such as /etc/hosts, cannot be replaced, but written.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                fs::copy(draft, path).map(drop)
            }
            Err(error) => Err(error),
        };
        // The draft goes with `self`.
        moved.map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((_, draft, _)) = &self.file {
            let _ = fs::remove_file(draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_copies_to_one_long_name_do_not_disturb_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n".repeat(255));
        let entry = Entry {
            path: String::new(),
            kind: EntryKind::File { size: 1 },
            mode: 0o600,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            modified: 0,
        };
        let mut first = Target::begin(&path, &entry, Some(1)).unwrap();
        let mut second = Target::begin(&path, &entry, Some(1)).unwrap();
        let third = Target::begin(&path, &entry, Some(1)).unwrap();
        assert!(first.write(b"1").unwrap() && second.write(b"2").unwrap());
        first.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1");
        second.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        drop(third);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
