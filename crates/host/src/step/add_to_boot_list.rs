//! Adding a function to the boot list, a file that administrators and `handover boot-list` change too.

use model::boot_list::{BootListEntry, LIST, entries, files, with};
use model::{HostError, Observed};

use crate::boot_list::{self, BootListError};
use crate::root::Root;
use crate::{platform, problem};

/// Whether a function is on the list with this entry.
pub fn observe(root: &Root, ours: &BootListEntry) -> Result<Observed, HostError> {
    compare(root, ours, true)
}

/// Whether a function is on the list with this entry (`listed`), or off it. A list without the files that apply it at
/// boot, such as an interrupted change leaves, has no effect.
pub fn compare(root: &Root, ours: &BootListEntry, listed: bool) -> Result<Observed, HostError> {
    let list = entries(&boot_list::list(root)?);
    let found = list.into_iter().find(|one| one.address == ours.address);
    let done = |after| if after { Observed::After } else { Observed::Before };
    Ok(match found {
        None => done(!listed),
        Some(found) if found == *ours && listed && !is_complete(root)? => {
            Observed::Other("the entry, without the files that apply the boot list".into())
        }
        Some(found) if found == *ours => done(listed),
        Some(found) => Observed::Other(format!("the boot list entry {found}")),
    })
}

/// Adds a function to the list, and writes the files that apply the list at boot.
pub fn add(root: &Root, ours: BootListEntry) -> Result<(), HostError> {
    change(root, |list| with(list, &[ours]))
}

/// Whether all files that apply the list at boot are in place.
fn is_complete(root: &Root) -> Result<bool, HostError> {
    let tool = platform::initramfs(root);
    let left = boot_list::changes(root, tool, &boot_list::list(root)?);
    Ok(!files(tool).is_empty() && left.is_ok_and(|left| left.is_empty()))
}

/// Changes the list, and the files that apply it at boot.
pub fn change(root: &Root, wanted: impl FnOnce(&str) -> String) -> Result<(), HostError> {
    let _lock = boot_list::lock(root)?;
    let wanted = wanted(&boot_list::list(root)?);
    let tool = platform::initramfs(root);
    if !entries(&wanted).is_empty() && files(tool).is_empty() {
        return Err(problem::without_errno(
            root,
            "apply",
            LIST,
            "no tool that builds an initial ramdisk is installed: install initramfs-tools, dracut or mkinitcpio",
        ));
    }
    let refused = |error: BootListError| match error {
        BootListError::Host(error) => error,
        BootListError::Foreign { path } => problem::without_errno(
            root,
            "write",
            &path,
            "the file exists and was not written by Handover",
        ),
    };
    let changes = boot_list::changes(root, tool, &wanted).map_err(refused)?;
    changes.iter().try_for_each(|change| boot_list::apply(root, change))
}
