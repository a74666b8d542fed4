//! mdevctl's definition of a mediated device: a file, of which mdevctl and people are told by no lock.

use model::{HostError, MdevDefinition, Observed};
use rustix::io::Errno;

use crate::root::{Before, Root};
use crate::{mdevctl, problem};

/// What is there of a definition, compared with ours.
pub enum There {
    /// Nothing.
    No,
    /// That one.
    Same,
    /// Another one of its name.
    Different(String),
}

/// Whether it is written. One of anybody else's is in the way, also one that cannot be read.
pub fn observe(root: &Root, ours: &MdevDefinition) -> Result<Observed, HostError> {
    Ok(match there(root, ours)? {
        There::No => Observed::Before,
        There::Same => Observed::After,
        There::Different(found) => Observed::Other(found),
    })
}

/// What is there of it.
pub fn there(root: &Root, ours: &MdevDefinition) -> Result<There, HostError> {
    let path = mdevctl::path(ours.parent, ours.uuid);
    match root.text(&path) {
        Ok(text) if mdevctl::same(&text, &text_of(ours)) => Ok(There::Same),
        Ok(_) | Err(Errno::ILSEQ | Errno::FBIG | Errno::ISDIR) => {
            Ok(There::Different(format!("another definition in {}", root.shown(&path))))
        }
        Err(Errno::NOENT) => Ok(There::No),
        Err(errno) => Err(problem::file(root, "read", &path, errno)),
    }
}

fn text_of(ours: &MdevDefinition) -> String {
    mdevctl::write(&ours.type_id, &ours.attributes)
}

/// Writes it, where there is none.
pub fn write(root: &Root, ours: &MdevDefinition) -> Result<(), HostError> {
    let path = mdevctl::path(ours.parent, ours.uuid);
    root.keep(&path, &text_of(ours), 0o644, Before::Nothing)
        .map_err(|errno| problem::file(root, "write", &path, errno))
}
