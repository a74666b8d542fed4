//! Directories and files that belong to Handover.
//!
//! They have their modes whatever the umask of the process is. The last component of a path is not followed if it is a
//! link, and nothing is changed before its descriptor shows that it is Handover's: a link, a hard link or another user's
//! file in the place of a socket or a lock must not lead to another file of the system.

mod dir;
mod file;
mod reach;
mod unfit;

pub use dir::{Existing, make_dir, untrusted};
pub use file::{OwnFile, claim, expect_ours, read_open, replace_with};
pub use reach::{Blocked, blocked};
pub use unfit::Unfit;

/// The mode of the state directory: machines' users pass through it, and cannot list it.
pub const STATE_DIR: u32 = 0o711;

/// The mode of the run directory: the group `handover` reaches the socket in it.
pub const RUN_DIR: u32 = 0o755;

/// Whether a user may own what Handover uses: root, or the user of this process.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Whether this process may change the mode of what this user owns.
fn may_change(uid: u32) -> bool {
    let own = rustix::process::geteuid().as_raw();
    own == 0 || own == uid
}
