//! A directory for readers of files.

use std::path::Path;

use tempfile::TempDir;

/// A new directory, in memory if possible: the journal is synced.
pub fn dir() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}
