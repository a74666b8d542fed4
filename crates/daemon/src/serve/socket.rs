//! The unix socket, for root and the group `handover`; access is equivalent to root.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use model::{Code, Refusal};
use tokio::net::UnixListener;
use tracing::warn;

/// The group whose members may connect.
const GROUP: &str = "handover";

/// Binds the socket. It is created in a private directory and renamed after setting its mode, so no other user can ever
/// open it. The socket of a dead daemon is replaced.
pub fn bind(path: &Path) -> Result<UnixListener, Refusal> {
    refuse_living(path)?;
    let failed = |error: io::Error| {
        Refusal::new(
            Code::Internal,
            format!("cannot create the socket {}: {error}", path.display()),
            "run as root, or choose another path with --socket and --run-dir",
        )
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let private_dir = private_dir(path);
    discard(&private_dir);
    DirBuilder::new().mode(0o700).create(&private_dir).map_err(failed)?;
    let made = make(&private_dir.join("s"), path);
    discard(&private_dir);
    made.map_err(failed)
}

fn make(new: &Path, path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(new)?;
    if let Some(group) = group() {
        let chowned = std::os::unix::fs::chown(new, None, Some(group));
        if let Err(error) = chowned {
            warn!(%error, "cannot change the socket's group to {GROUP}");
        }
    }
    fs::set_permissions(new, Permissions::from_mode(0o660))?;
    fs::rename(new, path)?;
    Ok(listener)
}

/// The private directory in which a socket is created.
fn private_dir(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Removes the private directory; it is absent after a clean start.
fn discard(private_dir: &Path) {
    let _ = fs::remove_file(private_dir.join("s"));
    let _ = fs::remove_dir(private_dir);
}

/// Removes the socket at the end.
pub fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        warn!(%error, "cannot remove the socket {}", path.display());
    }
}

/// Refuses to replace a file that is not a socket, or the socket of a running daemon.
fn refuse_living(path: &Path) -> Result<(), Refusal> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let shown = path.display();
    if !metadata.file_type().is_socket() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("{shown} exists and is not a socket"),
            "choose another path with --socket",
        ));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Refusal::new(
            Code::InUse,
            format!("another daemon answers on {shown}"),
            "stop it (systemctl stop handover), or choose other paths with --socket and --state-dir",
        ));
    }
    Ok(())
}

/// The id of the group, if this host has it. Reads `/etc/group` directly: NSS loads libraries and can wait for the
/// network, and the group is local. The socket belongs to this host whatever `--root` is.
fn group() -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(GROUP)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}
