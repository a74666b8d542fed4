//! Why a file or a directory is refused.

use std::io;
use std::path::Path;

/// Why a file or a directory is not used. Inside an [`io::Error`]; see [`Unfit::of`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A symbolic link in the place of a file.
    #[error("it is a symbolic link, which is not followed here")]
    Link,
    /// A symbolic link to a directory, which another user made.
    #[error("it is a symbolic link of another user (uid {0})")]
    LinkOf(u32),
    /// Another kind of file.
    #[error("it is a {found}, not a {expected}")]
    Kind {
        /// The expected kind.
        expected: &'static str,
        /// The kind found.
        found: &'static str,
    },
    /// It belongs to another user.
    #[error("it belongs to another user (uid {uid}), who could change it")]
    Owner {
        /// The user.
        uid: u32,
        /// Who may own it.
        expected: u32,
    },
    /// It has a hard link in another directory.
    #[error("it is a hard link: the same file has a name in another directory")]
    OtherName,
    /// A directory in which any user can replace files.
    #[error("every user can replace files in it (mode {0:04o}, without the sticky bit)")]
    OpenToAll(u32),
    /// It is longer than any such file.
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
}

impl Unfit {
    /// The reason inside an error, if it is one of these.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self, path: &Path) -> String {
        let shown = path.display();
        match self {
            Self::Link => format!("`ls -l {shown}` shows its target; move the link away"),
            Self::LinkOf(_) | Self::Kind { .. } | Self::OtherName => {
                format!("find out who made it: `ls -ld {shown}`; move it away")
            }
            Self::Owner { expected, .. } => format!(
                "find out who made it: `ls -ld {shown}`; move it away, or `chown {expected} {shown}`"
            ),
            Self::OpenToAll(_) => {
                format!(
                    "check what is in it, then `chmod o-w {shown}`; or choose another directory"
                )
            }
            Self::TooLong(_) => format!("check {shown}: is it the right file?"),
        }
    }
}

impl From<Unfit> for io::Error {
    fn from(unfit: Unfit) -> Self {
        Self::other(unfit)
    }
}
