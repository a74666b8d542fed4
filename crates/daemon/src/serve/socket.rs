//! The unix socket: root's and the group `handover`'s, which is as good as root.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use model::{Code, Refusal};
use tokio::net::UnixListener;
use tracing::warn;

/// The group whose members may ask.
const GROUP: &str = "handover";

/// Binds the socket. It is made where nobody else can reach it, and moved to its place with its mode right: there is no
/// moment in which a stranger could open it. What a dead daemon left there is replaced.
pub fn bind(path: &Path) -> Result<UnixListener, Refusal> {
    refuse_living(path)?;
    let failed = |error: io::Error| {
        Refusal::new(
            Code::Internal,
            format!("the socket {} cannot be made: {error}", path.display()),
            "run as root, or choose another place with --socket and --run-dir",
        )
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let nursery = nursery(path);
    discard(&nursery);
    DirBuilder::new().mode(0o700).create(&nursery).map_err(failed)?;
    let made = make(&nursery.join("s"), path);
    discard(&nursery);
    made.map_err(failed)
}

fn make(new: &Path, path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(new)?;
    if let Some(group) = group() {
        let chowned = std::os::unix::fs::chown(new, None, Some(group));
        if let Err(error) = chowned {
            warn!(%error, "the socket cannot be given to the group {GROUP}");
        }
    }
    fs::set_permissions(new, Permissions::from_mode(0o660))?;
    fs::rename(new, path)?;
    Ok(listener)
}

/// Where a socket is made.
fn nursery(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Removes a socket's nursery; there is none after a clean start.
fn discard(nursery: &Path) {
    let _ = fs::remove_file(nursery.join("s"));
    let _ = fs::remove_dir(nursery);
}

/// Removes the socket at the end.
pub fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        warn!(%error, "the socket {} cannot be removed", path.display());
    }
}

/// Refuses to replace a file that is no socket, or a socket on which somebody answers.
fn refuse_living(path: &Path) -> Result<(), Refusal> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let shown = path.display();
    if !metadata.file_type().is_socket() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("{shown} is there and is no socket"),
            "choose another place with --socket",
        ));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Refusal::new(
            Code::InUse,
            format!("another daemon answers on {shown}"),
            "stop it (systemctl stop handover), or choose another place with --socket and --state-dir",
        ));
    }
    Ok(())
}

/// The number of the group, where this host has it. Read from the file and not asked of NSS, which loads libraries and
/// can wait for the network: the group is a local one. The socket is this host's, whatever `--root` is.
fn group() -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(GROUP)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}
