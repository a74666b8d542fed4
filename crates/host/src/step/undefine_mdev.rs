//! Removing mdevctl's definition of a mediated device.

use model::{HostError, MdevDefinition, Observed};

use super::define_mdev::{DefinitionState, state};
use crate::root::Root;
use crate::{mdevctl, problem};

/// Whether it is gone.
pub fn observe(root: &Root, ours: &MdevDefinition) -> Result<Observed, HostError> {
    Ok(match state(root, ours)? {
        DefinitionState::Absent => Observed::After,
        DefinitionState::Same => Observed::Before,
        DefinitionState::Different(found) => Observed::Other(found),
    })
}

/// Removes the file. The caller has just checked that it is ours; mdevctl has no lock that would exclude a race.
pub fn remove(root: &Root, ours: &MdevDefinition) -> Result<(), HostError> {
    let path = mdevctl::path(ours.parent, ours.uuid);
    root.forget(&path).map_err(|errno| problem::file(root, "remove", &path, errno))?;
    root.forget_empty(&mdevctl::folder(ours.parent));
    Ok(())
}
