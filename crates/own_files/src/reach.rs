//! Whether another user can reach a file. A program that cannot only says "Permission denied".

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A directory through which a user may not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The directory.
    pub dir: PathBuf,
    /// Its mode.
    pub mode: u32,
}

impl std::fmt::Display for Blocked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dir, mode } = self;
        write!(out, "no execute permission on it (mode {mode:04o}); chmod o+x {}", dir.display())
    }
}

/// The directory above a file through which a user, whose group has the same number, may not pass; `None` if there is none.
///
/// # Errors
/// If a directory cannot be examined.
pub fn blocked(path: &Path, uid: u32) -> io::Result<Option<Blocked>> {
    for dir in path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()) {
        let metadata = fs::metadata(dir)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
        let mode = metadata.mode() & 0o7777;
        let needed = match (metadata.uid() == uid, metadata.gid() == uid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if mode & needed == 0 {
            return Ok(Some(Blocked { dir: dir.to_owned(), mode }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_directory_in_the_way_is_named() {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir();
        let dir = dir.unwrap();
        let inner = dir.path().join("a");
        fs::create_dir_all(inner.join("b")).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o710)).unwrap();
        let file = inner.join("b/disk");
        let found = blocked(&file, 1_900_000_000).unwrap().unwrap();
        assert_eq!(found, Blocked { dir: inner.clone(), mode: 0o710 });
        assert!(found.to_string().ends_with(&format!("chmod o+x {}", inner.display())));
        let own = fs::metadata(&inner).unwrap().gid();
        if own != fs::metadata(&inner).unwrap().uid() || own == 0 {
            assert_eq!(blocked(&file, own).unwrap(), None, "its group may pass");
        }
    }
}
