//! Reserving functions for machines by address, from the next boot on, as commands for a shell: what `handover reserve`
//! does by itself.

use super::super::{Platform, Remedy};
use super::shell::{append_line, write_file};
use super::with_initramfs;
use crate::Function;
use crate::boot_list::{BootListEntry, LIST, files};

/// Keeps functions for vfio from the next boot on: no other driver gets them. The function at the address is only
/// taken if it still has the same ids then.
#[must_use]
pub fn boot_list(platform: &Platform, functions: &[&Function]) -> Remedy {
    let names: Vec<String> =
        functions.iter().map(|function| function.address.to_string()).collect();
    let words = format!(
        "reserve {} by address from the next boot on, as `handover reserve` does (`--remove` undoes it; listed in {LIST})",
        names.join(", ")
    );
    let files = files(platform.initramfs);
    if files.is_empty() || functions.is_empty() {
        return Remedy::words(format!(
            "{words}: have the initial ramdisk write the driver's name into driver_override before udev starts; \
             the tool that makes it is not known here"
        ));
    }
    let lines = functions.iter().map(|function| BootListEntry::of(function).to_string());
    let mut commands: Vec<String> = lines.map(|line| append_line(LIST, &line)).collect();
    let write = |file: &crate::boot_list::File| {
        write_file(file.path, &format!("{:o}", file.mode), file.text)
    };
    commands.extend(files.iter().map(write));
    with_initramfs(platform, words, commands)
}
