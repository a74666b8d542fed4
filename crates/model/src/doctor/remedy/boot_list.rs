//! Adding functions to the boot list with shell commands; `handover boot-list` does the same.

use super::super::{Platform, Remedy};
use super::shell::{append_line, write_file};
use super::with_initramfs;
use crate::Function;
use crate::boot_list::{BootListEntry, INSTALL_TOOL, LIST, NO_TOOL, files};

/// Adds functions to the boot list: vfio-pci takes them from the next boot on, before any other driver, if the function
/// at the address still has the same ids.
#[must_use]
pub fn boot_list(platform: &Platform, functions: &[&Function]) -> Remedy {
    let names: Vec<String> =
        functions.iter().map(|function| function.address.to_string()).collect();
    let words = format!(
        "add {} to the boot list {LIST}, as `handover boot-list` does (`--remove` undoes it)",
        names.join(", ")
    );
    if platform.boot_loader.is_image() {
        return Remedy::words(format!(
            "{words}; this system's initial ramdisk is a part of its image: build the boot list's files into that"
        ));
    }
    let files = files(platform.initramfs);
    if files.is_empty() || functions.is_empty() {
        return Remedy::words(format!("{words}; {NO_TOOL}: {INSTALL_TOOL}"));
    }
    let lines = functions.iter().map(|function| BootListEntry::of(function).to_string());
    let mut commands: Vec<String> = lines.map(|line| append_line(LIST, &line)).collect();
    let write = |file: &crate::boot_list::File| {
        write_file(file.path, &format!("{:o}", file.mode), file.text)
    };
    commands.extend(files.iter().map(write));
    with_initramfs(platform, words, commands)
}
