//! What a path is.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use guest_protocol::message::{FileInfo, StatRequest};

/// Says what a path is. A path that does not exist is an answer, too.
pub fn stat(request: &StatRequest) -> io::Result<FileInfo> {
    let path = &request.path;
    let metadata =
        if request.follow_links { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(FileInfo::default()),
        Err(error) => return Err(error),
    };
    let target = if metadata.is_symlink() {
        Some(fs::read_link(path)?.to_string_lossy().into_owned())
    } else {
        None
    };
    Ok(info(&metadata, target))
}

fn info(metadata: &Metadata, target: Option<String>) -> FileInfo {
    FileInfo {
        exists: true,
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: metadata.size(),
        modified: metadata.mtime(),
        target,
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
