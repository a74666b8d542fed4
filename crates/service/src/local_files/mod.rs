//! Files of this host that are copied into or out of a guest: reads and writes them, as a directory tree or a tar archive.
//!
//! What comes out of a guest is untrusted: nothing is written outside of the directory that was chosen, whatever paths and links
//! the guest sends.

mod destination;
mod pack;
mod tarred;
mod unpack;

pub use destination::{Source, from_guest, into_guest};
pub use pack::{Packed, pack};
pub use tarred::{pack_tar, unpack_tar};
pub use unpack::{Keep, Place, Unpacked, unpack};

use api::CopyHeader;
use model::{Code, Refusal};
use tokio::sync::mpsc;

/// A part of a copy.
#[derive(Debug)]
pub enum Part {
    /// A file, directory or link begins.
    Header(CopyHeader),
    /// Contents of that file.
    Data(Vec<u8>),
    /// The copy is complete.
    End,
}

/// What cannot be copied, and why.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file of this host.
    #[error("cannot {action} {path}: {error}")]
    File {
        /// What could not be done.
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The name of a file is not UTF-8.
    #[error("the name {0} is not UTF-8, and cannot be copied")]
    Name(String),
    /// A tar archive has something that cannot be copied.
    #[error("the tar archive has {what} {path:?}, which cannot be copied")]
    Tar {
        /// What it is.
        what: &'static str,
        /// Its path there.
        path: String,
    },
    /// A tar archive that cannot be read or written.
    #[error("cannot {action} the tar archive: {error}")]
    Archive {
        /// What could not be done.
        action: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// The guest sent something else than a copy is.
    #[error("the guest sent {0}")]
    Guest(String),
    /// The other side went away. It says why.
    #[error("the copy broke off")]
    BrokenOff,
}

impl LocalError {
    fn file(
        action: &'static str,
        path: impl AsRef<std::path::Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = model::shown::escaped(&path.as_ref().to_string_lossy()).to_string();
        move |error| Self::File { action, path, error }
    }
}

impl From<LocalError> for Refusal {
    fn from(error: LocalError) -> Self {
        let remedy = match &error {
            LocalError::File { .. } => "check the path, its permissions and the free space",
            LocalError::Name(_) => "rename the file, or copy a tar archive of it",
            LocalError::Tar { .. } => {
                "leave it out of the archive; GNU tar's `--hard-dereference` stores hard links as files"
            }
            LocalError::Archive { .. } => "check where the archive comes from or goes to",
            LocalError::Guest(_) => "the guest is not to be trusted: look at what runs in it",
            LocalError::BrokenOff => "copy again",
        };
        let message = model::shown::escaped(&error.to_string()).to_string();
        Self::new(Code::InvalidRequest, message, remedy)
    }
}

type Sender = mpsc::Sender<Part>;
type Receiver = mpsc::Receiver<Part>;

fn send(to: &Sender, part: Part) -> Result<(), LocalError> {
    to.blocking_send(part).map_err(|_| LocalError::BrokenOff)
}

/// The next part, which must be there: a copy ends with [`Part::End`].
fn next(from: &mut Receiver) -> Result<Part, LocalError> {
    from.blocking_recv().ok_or(LocalError::BrokenOff)
}

/// Gives the contents of a file, which must have the announced size, piece by piece.
fn contents(
    from: &mut Receiver,
    header: &CopyHeader,
    mut take: impl FnMut(&[u8]) -> Result<(), LocalError>,
) -> Result<(), LocalError> {
    let mut left = header.size;
    while left > 0 {
        let Part::Data(data) = next(from)? else {
            return Err(LocalError::Guest(format!("{:?} shorter than it said", header.path)));
        };
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if length == 0 || length > left {
            return Err(LocalError::Guest(format!("{:?} longer than it said", header.path)));
        }
        left -= length;
        take(&data)?;
    }
    Ok(())
}

/// The components of the path of an entry: none for the copied one itself.
fn components(path: &str) -> Result<Vec<&str>, LocalError> {
    if !engine::guest_agent::is_inner_path(path) {
        return Err(LocalError::Guest(format!("the path {path:?}, which leaves the directory")));
    }
    Ok(path.split('/').filter(|part| !part.is_empty() && *part != ".").collect())
}
