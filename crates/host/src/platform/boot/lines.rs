//! Boot loaders whose configuration, or whose tool's, has the command line in a line of text.

use model::doctor::BootLoader;

use super::{is_generated, program};
use crate::root::Root;

const LIMINE: [&str; 4] = [
    "boot/limine.conf",
    "boot/limine/limine.conf",
    "boot/EFI/limine/limine.conf",
    "efi/limine.conf",
];
const LIMINE_TOOL: &str = "etc/default/limine";
pub const REFIND: &str = "boot/refind_linux.conf";
const REFIND_OWN: [&str; 3] = [
    "boot/EFI/refind/refind.conf",
    "efi/EFI/refind/refind.conf",
    "boot/efi/EFI/refind/refind.conf",
];
const UPDATE_EXTLINUX: &str = "etc/update-extlinux.conf";
/// Syslinux's, and U-Boot's in the same format.
const SYSLINUX: [&str; 4] = [
    "boot/extlinux/extlinux.conf",
    "boot/extlinux.conf",
    "boot/syslinux/syslinux.cfg",
    "boot/syslinux.cfg",
];
const UNRAID: &str = "boot/syslinux/syslinux.cfg";
/// Raspberry Pi's, from the newest layout to the oldest.
const RASPBERRY: [(&str, &str); 3] = [
    ("boot/firmware/current/cmdline.txt", "boot/firmware/config.txt"),
    ("boot/firmware/cmdline.txt", "boot/firmware/config.txt"),
    ("boot/cmdline.txt", "boot/config.txt"),
];

/// Limine: the entries are the tool's, if it has a configuration here.
pub fn limine(root: &Root) -> BootLoader {
    BootLoader::Limine { tool: root.exists(LIMINE_TOOL) }
}

pub fn refind(root: &Root) -> BootLoader {
    BootLoader::Refind { file: root.exists(REFIND) }
}

/// Unraid boots from a stick, mounted on /boot; the rest of the system is in memory.
pub fn unraid(root: &Root) -> BootLoader {
    BootLoader::Unraid { file: root.exists(UNRAID) }
}

/// The loader whose files are here.
pub fn found(root: &Root) -> Option<BootLoader> {
    let any = |paths: &[&str]| paths.iter().any(|path| root.exists(path));
    if any(&LIMINE) || root.exists(LIMINE_TOOL) {
        return Some(limine(root));
    }
    if any(&REFIND_OWN) || root.exists(REFIND) {
        return Some(refind(root));
    }
    if root.exists(UPDATE_EXTLINUX) && program(root, "update-extlinux") {
        return Some(BootLoader::UpdateExtlinux);
    }
    if root.exists("etc/default/u-boot") && program(root, "u-boot-update") {
        return Some(BootLoader::UBootMenu);
    }
    let raspberry =
        RASPBERRY.iter().find(|(line, config)| root.exists(line) && root.exists(config));
    if let Some((line, _)) = raspberry {
        return Some(BootLoader::RaspberryPi { file: format!("/{line}") });
    }
    let file = SYSLINUX.iter().find(|path| root.exists(path))?;
    if is_generated(&root.text(file).unwrap_or_default()) {
        return None;
    }
    Some(BootLoader::Syslinux { file: format!("/{file}") })
}
