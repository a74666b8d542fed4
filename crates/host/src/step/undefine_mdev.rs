//! Removing mdevctl's definition of a mediated device.

use model::{HostError, MdevDefinition, Observed};

use super::define_mdev::{There, there};
use crate::root::Root;
use crate::{mdevctl, problem};

/// Whether it is gone.
pub fn observe(root: &Root, ours: &MdevDefinition) -> Result<Observed, HostError> {
    Ok(match there(root, ours)? {
        There::No => Observed::After,
        There::Same => Observed::Before,
        There::Different(found) => Observed::Other(found),
    })
}

/// Removes it. That it is ours was seen just before; mdevctl knows no lock that would make it sure.
pub fn remove(root: &Root, ours: &MdevDefinition) -> Result<(), HostError> {
    let path = mdevctl::path(ours.parent, ours.uuid);
    root.forget(&path).map_err(|errno| problem::file(root, "remove", &path, errno))?;
    root.forget_empty(&mdevctl::folder(ours.parent));
    Ok(())
}
