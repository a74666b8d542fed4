//! Reads files of this host.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use api::CopyHeader;
use rustix::fs::OFlags;

use super::{LocalError, Part, Sender, send};

/// The size of a piece of a file.
const CHUNK: usize = 64 << 10;

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Files, directories and links.
    pub entries: u64,
    /// The paths of devices, pipes and sockets, which were left out.
    pub left_out: Vec<PathBuf>,
}

/// Sends a file, or a directory with all that is below it. `follow` follows a link at the path, `owners` keeps owners, and `stays`
/// leaves out the directory itself.
///
/// # Errors
/// See [`LocalError`].
pub fn pack(
    root: &Path,
    follow: bool,
    owners: bool,
    stays: bool,
    to: &Sender,
) -> Result<Packed, LocalError> {
    let metadata = if follow { fs::metadata(root) } else { fs::symlink_metadata(root) };
    let metadata = metadata.map_err(LocalError::file("read", root))?;
    let mut packed = Packed::default();
    let mut left = vec![(PathBuf::new(), metadata)];
    while let Some((inner, metadata)) = left.pop() {
        let is_root = inner.as_os_str().is_empty();
        let path = if is_root { root.to_owned() } else { root.join(&inner) };
        let name = inner.to_str();
        let name = name.ok_or_else(|| LocalError::Name(format!("{:?}", inner.as_os_str())))?;
        let header = header(name, &metadata, owners);
        packed.entries += 1;
        if metadata.is_dir() {
            if !(is_root && stays) {
                send(to, Part::Header(header))?;
            }
            left.extend(children(&path, &inner)?);
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(LocalError::file("read", &path))?;
            let target = target.into_os_string().into_string();
            let link_target = target.map_err(|name| LocalError::Name(format!("{name:?}")))?;
            send(to, Part::Header(CopyHeader { is_symlink: true, link_target, ..header }))?;
        } else if metadata.is_file() {
            send(to, Part::Header(header))?;
            send_contents(&path, follow && is_root, to)?;
        } else {
            packed.entries -= 1;
            packed.left_out.push(path);
        }
    }
    send(to, Part::End)?;
    Ok(packed)
}

fn header(path: &str, metadata: &Metadata, owners: bool) -> CopyHeader {
    let owner = |id: u32| if owners { id } else { 0 };
    CopyHeader {
        path: path.to_owned(),
        mode: metadata.mode() & 0o7777,
        is_dir: metadata.is_dir(),
        size: if metadata.is_file() { metadata.len() } else { 0 },
        mtime: metadata.mtime(),
        uid: owner(metadata.uid()),
        gid: owner(metadata.gid()),
        ..CopyHeader::default()
    }
}

/// What is in a directory, the last first: the walk takes from the end.
fn children(path: &Path, inner: &Path) -> Result<Vec<(PathBuf, Metadata)>, LocalError> {
    let mut found = Vec::new();
    for child in fs::read_dir(path).map_err(LocalError::file("read", path))? {
        let child = child.map_err(LocalError::file("read", path))?;
        // What was removed in the meantime is not there.
        match child.metadata() {
            Ok(metadata) => found.push((inner.join(child.file_name()), metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(LocalError::file("read", &child.path())(error)),
        }
    }
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    Ok(found)
}

fn send_contents(path: &Path, follow: bool, to: &Sender) -> Result<(), LocalError> {
    let failed = || LocalError::file("read", path);
    // A pipe in its place must not keep us waiting.
    let no_follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = (OFlags::NONBLOCK | no_follow).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    send_all(&mut file.map_err(failed())?, to, failed)
}

/// Sends all that can be read.
pub(super) fn send_all<F>(
    from: &mut impl Read,
    to: &Sender,
    failed: impl Fn() -> F,
) -> Result<(), LocalError>
where
    F: FnOnce(std::io::Error) -> LocalError,
{
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).map_err(failed())?;
        match chunk.get(..length) {
            Some(read) if length > 0 => send(to, Part::Data(read.to_vec()))?,
            _ => return Ok(()),
        }
    }
}
