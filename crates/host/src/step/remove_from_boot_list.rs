//! Removing a function from the boot list.

use model::boot_list::{BootListEntry, without};
use model::{HostError, Observed};

use super::add_to_boot_list::{change, compare};
use crate::root::Root;

/// Whether a function is off the list.
pub fn observe(root: &Root, ours: &BootListEntry) -> Result<Observed, HostError> {
    compare(root, ours, false)
}

/// Removes it from the list.
pub fn remove(root: &Root, ours: &BootListEntry) -> Result<(), HostError> {
    change(root, |list| without(list, &[ours.address]))
}
