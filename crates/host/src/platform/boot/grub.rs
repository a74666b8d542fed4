//! GRUB: which of its files and tools set the options of the kernel.

use model::doctor::BootLoader;

use super::{assignments, files, program};
use crate::root::Root;

const DEFAULTS: &str = "etc/default/grub";
const ENTRIES: &str = "boot/loader/entries";
/// openSUSE's choice of a boot loader.
const SUSE: &str = "etc/sysconfig/bootloader";

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
    if program(root, "update-grub") {
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
