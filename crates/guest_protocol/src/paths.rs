//! Which paths the protocol allows.

use std::path::{Component, Path};

/// The longest path.
const MAX_BYTES: usize = 4095;

/// Whether this is an absolute path without `..`, and without a byte that no path can have.
#[must_use]
pub fn is_absolute_path(path: &str) -> bool {
    path.starts_with('/') && plain(path)
}

/// Whether this is the path of something below a directory: relative, without `..`. Empty is the directory itself.
#[must_use]
pub fn is_inner_path(path: &str) -> bool {
    !path.starts_with('/') && plain(path)
}

fn plain(path: &str) -> bool {
    path.len() <= MAX_BYTES
        && !path.contains('\0')
        && Path::new(path).components().all(|part| part != Component::ParentDir)
}
