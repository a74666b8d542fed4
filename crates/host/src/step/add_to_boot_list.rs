//! The list of what the initial ramdisk gives to machines from the next boot on: a file, which people and `handover
//! reserve` change too.

use model::boot_list::{BootListEntry, LIST, entries, files, with};
use model::{HostError, Observed};

use crate::boot_list::{self, BootListError};
use crate::root::Root;
use crate::{platform, problem};

/// Whether a function is on the list as it shall be.
pub fn observe(root: &Root, ours: &BootListEntry) -> Result<Observed, HostError> {
    compare(root, ours, true)
}

/// Whether a function is on the list as it shall be, or off it. A list that nothing puts to work, as somebody's that was cut off
/// leaves it, reserves nothing.
pub fn compare(root: &Root, ours: &BootListEntry, listed: bool) -> Result<Observed, HostError> {
    let list = entries(&boot_list::list(root)?);
    let there = list.into_iter().find(|one| one.address == ours.address);
    let told = |after| if after { Observed::After } else { Observed::Before };
    Ok(match there {
        None => told(!listed),
        Some(there) if there == *ours && listed && !is_at_work(root)? => {
            Observed::Other("it listed, without the files that put the list to work".into())
        }
        Some(there) if there == *ours => told(listed),
        Some(there) => Observed::Other(format!("it reserved as {there}")),
    })
}

/// Puts it on the list, with what puts the list to work.
pub fn add(root: &Root, ours: BootListEntry) -> Result<(), HostError> {
    change(root, |list| with(list, &[ours]))
}

fn is_at_work(root: &Root) -> Result<bool, HostError> {
    let tool = platform::initramfs(root);
    let left = boot_list::changes(root, tool, &boot_list::list(root)?);
    Ok(!files(tool).is_empty() && left.is_ok_and(|left| left.is_empty()))
}

/// Changes the list, and what puts it to work.
pub fn change(root: &Root, wanted: impl FnOnce(&str) -> String) -> Result<(), HostError> {
    let _turn = boot_list::lock(root)?;
    let wanted = wanted(&boot_list::list(root)?);
    let tool = platform::initramfs(root);
    if !entries(&wanted).is_empty() && files(tool).is_empty() {
        return Err(problem::said(
            root,
            "put the list to work of",
            LIST,
            "the tool that makes this system's initial ramdisk is not known here",
        ));
    }
    let refused = |error: BootListError| match error {
        BootListError::Host(error) => error,
        BootListError::Foreign { path } => problem::said(
            root,
            "write",
            &path,
            "a file of that name is there and is not Handover's",
        ),
    };
    let changes = boot_list::changes(root, tool, &wanted).map_err(refused)?;
    changes.iter().try_for_each(|change| boot_list::make(root, change))
}
