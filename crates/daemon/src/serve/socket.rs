//! The unix socket, for root and the group `handover`; access is equivalent to root.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Code, Refusal};
use own_files::{Existing, RUN_DIR, Unfit, make_dir};
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

/// The group whose members may connect.
const GROUP: &str = "handover";

/// The mode of the socket.
const MODE: u32 = 0o660;

/// How often to check that the socket is still there.
const EVERY: Duration = Duration::from_secs(1);

/// The listening socket. If its file or its directory is removed, it is created again.
pub struct Socket {
    path: PathBuf,
    bound: Mutex<Arc<Bound>>,
    /// Why it could not be created again, to be logged once.
    problem: Mutex<Option<String>>,
}

/// A socket at its path.
struct Bound {
    listener: UnixListener,
    /// Its device and inode.
    file: (u64, u64),
}

impl Socket {
    /// Creates the socket and listens. Replaces the socket of a dead daemon.
    pub fn bind(path: &Path) -> Result<Arc<Self>, Refusal> {
        let bound = Mutex::new(Arc::new(bind(path)?));
        Ok(Arc::new(Self { path: path.to_owned(), bound, problem: Mutex::default() }))
    }

    /// Removes the socket at the end, unless it is another daemon's by now.
    pub fn remove(&self) {
        if !self.is_there() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            warn!(%error, "cannot remove the socket {}", self.path.display());
        }
    }

    /// The next connection; meanwhile, checks that the socket is still there. It can be dropped and asked again.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let bound = self.bound();
            tokio::select! {
                // Connections that wait on a socket are accepted before it is replaced.
                biased;
                accepted = bound.listener.accept() => return accepted.map(|(stream, _)| stream),
                () = tokio::time::sleep(EVERY) => self.restore(),
            }
        }
    }

    fn bound(&self) -> Arc<Bound> {
        Arc::clone(&self.bound.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_there(&self) -> bool {
        file_at(&self.path).is_some_and(|there| there == self.bound().file)
    }

    /// Creates the socket again if it is no longer there.
    fn restore(&self) {
        if self.is_there() {
            return;
        }
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match bind(&self.path) {
            Ok(bound) => {
                *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(bound);
                *problem = None;
                warn!("the socket {} was removed; it is there again", self.path.display());
            }
            Err(Refusal { message, remedy, .. }) if problem.as_ref() != Some(&message) => {
                warn!("the socket was removed, and cannot be created again: {message}; {remedy}");
                *problem = Some(message);
            }
            Err(_) => {}
        }
    }
}

/// Binds the socket. It is created in a private directory and renamed after setting its mode, so no other user can ever
/// open it.
fn bind(path: &Path) -> Result<Bound, Refusal> {
    refuse_living(path)?;
    let failed = |error: io::Error| {
        let message = format!("cannot create the socket {}: {error}", path.display());
        let dir = path.parent().unwrap_or(path);
        let remedy = Unfit::of(&error).map_or_else(
            || "run as root, or choose another path with --socket and --run-dir".to_owned(),
            |unfit| unfit.remedy(dir),
        );
        Refusal::new(Code::Internal, message, remedy)
    };
    if let Some(parent) = path.parent() {
        make_dir(parent, RUN_DIR, Existing::Tighten).map_err(failed)?;
    }
    let private_dir = private_dir(path);
    discard(&private_dir);
    let made = make(&private_dir, path);
    discard(&private_dir);
    made.map_err(failed)
}

fn make(private_dir: &Path, path: &Path) -> io::Result<Bound> {
    // Fails if anything is there, even a link.
    fs::DirBuilder::new().mode(0o700).create(private_dir)?;
    make_dir(private_dir, 0o700, Existing::Set)?;
    let new = &private_dir.join("s");
    let listener = UnixListener::bind(new)?;
    if let Some(group) = group() {
        let chowned = std::os::unix::fs::lchown(new, None, Some(group));
        if let Err(error) = chowned {
            warn!(%error, "cannot change the socket's group to {GROUP}");
        }
    }
    // By name, in a directory that only we can enter: chmod(2) on the descriptor of a socket does not reach its file.
    fs::set_permissions(new, Permissions::from_mode(MODE))?;
    let file = file_at(new).ok_or(io::ErrorKind::NotFound)?;
    fs::rename(new, path)?;
    Ok(Bound { listener, file })
}

/// The device and inode of the socket at a path.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    metadata.file_type().is_socket().then(|| (metadata.dev(), metadata.ino()))
}

/// The private directory in which a socket is created.
fn private_dir(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Removes the private directory; it is absent after a clean start. A link in its place is not followed.
fn discard(private_dir: &Path) {
    let stat = rustix::fs::statat(CWD, private_dir, AtFlags::SYMLINK_NOFOLLOW);
    let own = rustix::process::geteuid().as_raw();
    if stat.is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() && stat.st_uid == own
    }) {
        let _ = fs::remove_file(private_dir.join("s"));
        let _ = fs::remove_dir(private_dir);
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
            "move it away, or choose another path with --socket",
        ));
    }
    if answers(path) {
        return Err(Refusal::new(
            Code::InUse,
            format!("another daemon answers on {shown}"),
            "stop it (systemctl stop handover), or choose other paths with --socket and --state-dir",
        ));
    }
    Ok(())
}

/// Whether a process listens on a socket. A full queue of connections answers too, and must not block here.
fn answers(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let asked = SocketAddrUnix::new(path).and_then(|address| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)
    });
    matches!(asked, Ok(()) | Err(Errno::AGAIN))
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
