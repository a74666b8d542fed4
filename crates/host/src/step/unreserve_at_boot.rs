//! Taking a function off the list of what the initial ramdisk gives to machines.

use model::reserve::{Reserved, without};
use model::{HostError, Observed};

use super::reserve_at_boot::{change, compare};
use crate::root::Root;

/// Whether a function is off the list.
pub fn observe(root: &Root, ours: &Reserved) -> Result<Observed, HostError> {
    compare(root, ours, false)
}

/// Takes it off the list.
pub fn remove(root: &Root, ours: &Reserved) -> Result<(), HostError> {
    change(root, |list| without(list, &[ours.address]))
}
