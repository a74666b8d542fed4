//! Writing mdevctl's definition of a mediated device, a file that mdevctl and administrators change without a lock.

use model::{HostError, MdevDefinition, Observed};
use rustix::io::Errno;

use crate::root::{Before, Root};
use crate::{config_files, mdevctl, problem};

/// The state of a definition's file, compared with ours.
pub enum DefinitionState {
    /// It does not exist.
    Absent,
    /// It is ours.
    Same,
    /// It has other contents.
    Different(String),
}

/// Whether it is written. A file with other contents blocks the step, also one that cannot be parsed.
pub fn observe(root: &Root, ours: &MdevDefinition) -> Result<Observed, HostError> {
    Ok(match state(root, ours)? {
        DefinitionState::Absent => Observed::Before,
        DefinitionState::Same => Observed::After,
        DefinitionState::Different(found) => Observed::Other(found),
    })
}

/// The present state of a definition's file.
pub fn state(root: &Root, ours: &MdevDefinition) -> Result<DefinitionState, HostError> {
    let path = mdevctl::path(ours.parent, ours.uuid);
    match root.text(&path) {
        Ok(text) if mdevctl::same(&text, &text_of(ours)) => Ok(DefinitionState::Same),
        Ok(_) | Err(Errno::ILSEQ | Errno::FBIG | Errno::ISDIR) => {
            let found = format!("another definition in {}", root.shown(&path));
            Ok(DefinitionState::Different(found))
        }
        Err(Errno::NOENT) => Ok(DefinitionState::Absent),
        Err(errno) => Err(problem::file(root, "read", &path, errno)),
    }
}

fn text_of(ours: &MdevDefinition) -> String {
    mdevctl::write(&ours.type_id, &ours.attributes)
}

/// Writes the definition; fails if the file exists.
pub fn write(root: &Root, ours: &MdevDefinition) -> Result<(), HostError> {
    let path = mdevctl::path(ours.parent, ours.uuid);
    config_files::write(root, &path, &text_of(ours), 0o644, Before::Nothing)
}
