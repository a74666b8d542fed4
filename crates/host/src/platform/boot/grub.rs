//! GRUB: which of its files and tools set the options of the kernel.

use model::doctor::BootLoader;

use super::{assignments, files, program};
use crate::root::Root;

const DEFAULTS: &str = "etc/default/grub";
const ENTRIES: &str = "boot/loader/entries";
/// openSUSE's choice of a boot loader.
const SUSE: &str = "etc/sysconfig/bootloader";

/// Whether GRUB also reads `/etc/default/grub.d`, as Debian's and its derivatives' does. Other systems too have a command
/// `update-grub`.
fn reads_drop_ins(root: &Root) -> bool {
    let theirs = ["etc/default/grub.d", "etc/debian_version"].iter().any(|path| root.exists(path));
    let Ok(text) = root.text("etc/os-release").or_else(|_| root.text("usr/lib/os-release")) else {
        return true;
    };
    let mut names = assignments(&text, "ID").chain(assignments(&text, "ID_LIKE"));
    theirs || names.any(|names| names.contains("debian") || names.contains("ubuntu"))
}

/// How options are set; `None` if GRUB has no files here.
pub fn way(root: &Root) -> Option<BootLoader> {
    let text = root.text(DEFAULTS).ok();
    let defaults = text.is_some() || root.exists(DEFAULTS);
    let suse = root.text(SUSE).unwrap_or_default();
    if program(root, "sdbootutil")
        && assignments(&suse, "LOADER_TYPE").any(|one| one == "grub2-bls")
    {
        return Some(BootLoader::Sdbootutil);
    }
    if program(root, "grubby") {
        return Some(BootLoader::GrubFedora);
    }
    if !defaults {
        return None;
    }
    if program(root, "update-grub") && reads_drop_ins(root) {
        return Some(BootLoader::GrubDebian);
    }
    let text = text.unwrap_or_default();
    let switched_on = assignments(&text, "GRUB_ENABLE_BLSCFG").last() == Some("true");
    if switched_on && !files(root, ENTRIES, ".conf").is_empty() {
        return Some(BootLoader::GrubBls);
    }
    let second = program(root, "grub2-mkconfig") || root.exists("boot/grub2");
    Some(if second { BootLoader::Grub2 } else { BootLoader::Grub })
}
