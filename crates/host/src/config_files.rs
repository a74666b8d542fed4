//! Configuration files that survive a reboot, such as the boot list and mdevctl's definitions.

use std::path::Path;

use model::HostError;

use crate::problem;
use crate::root::{Before, FileKind, Root};

/// Writes a file whole or not at all.
///
/// # Errors
/// If other users could replace it: root acts on what these files say. If it cannot be written.
pub fn write(
    root: &Root,
    path: &str,
    text: &str,
    mode: u32,
    before: Before,
) -> Result<(), HostError> {
    expect_trusted_directory(root, path)?;
    root.keep(path, text, mode, before).map_err(|errno| problem::file(root, "write", path, errno))
}

/// Refuses a path whose directory belongs to another user or is writable for all. Missing directories are created with
/// a fixed mode.
fn expect_trusted_directory(root: &Root, path: &str) -> Result<(), HostError> {
    let above = path.rmatch_indices('/').map(|(at, _)| path.split_at(at).0);
    let Some((directory, status)) =
        above.into_iter().find_map(|above| Some((above, root.stat(above).ok()?)))
    else {
        return Ok(());
    };
    let shown = root.shown(directory);
    let reason = if status.kind == FileKind::Directory {
        let Some(unfit) = own_files::untrusted(status.uid, status.mode) else { return Ok(()) };
        format!("{shown}: {unfit}; {}", unfit.remedy(Path::new(&shown)))
    } else {
        format!("{shown} is not a directory")
    };
    Err(problem::without_errno(root, "write", path, &reason))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir_all, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_in_which_all_users_can_write_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(place.path()).unwrap();
        let directory = place.path().join("etc/handover");
        create_dir_all(&directory).unwrap();
        let put = || write(&root, "etc/handover/file", "text\n", 0o644, Before::Anything);
        put().unwrap();
        set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        let error = put().unwrap_err().to_string();
        assert!(error.contains("chmod o-w"), "{error}");
        // A missing directory below it is not safer.
        let below = write(&root, "etc/handover/new/file", "text\n", 0o644, Before::Anything);
        assert!(below.is_err() && !directory.join("new").exists());
        set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        put().unwrap();
    }
}
