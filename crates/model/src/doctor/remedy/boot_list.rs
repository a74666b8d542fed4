//! Adding functions to the boot list with `handover boot-list`.

use super::super::{BootLoader, Platform, Remedy};
use super::{boot, rebuild_initramfs};
use crate::boot_list::{INSTALL_TOOL, LIST, NO_TOOL, files};
use crate::{Address, Function};

/// Adds an assembly to the boot list: vfio-pci takes its functions from the next boot on, before any other driver, if the
/// function at the address still has the same ids.
#[must_use]
pub fn boot_list(platform: &Platform, head: Address, functions: &[&Function]) -> Remedy {
    let names: Vec<String> =
        functions.iter().map(|function| function.address.to_string()).collect();
    let words = format!("add {} to the boot list {LIST} (`--remove` undoes it)", names.join(", "));
    if platform.boot_loader.is_image() {
        return Remedy::words(format!(
            "{words}; this system's initial ramdisk is a part of its image: build the boot list's files into that"
        ));
    }
    if let Some(how) = without_list(platform) {
        return Remedy::words(format!(
            "let vfio-pci take {} at each boot: {how}",
            names.join(", ")
        ));
    }
    if files(platform.initramfs).is_empty() || functions.is_empty() {
        return Remedy::words(format!("{words}; {NO_TOOL}: {INSTALL_TOOL}"));
    }
    let add = format!("{ADD}{head}");
    let commands = match boot::rebuild_ramdisk(platform) {
        Some(rebuild) if Some(rebuild) != rebuild_initramfs(platform.initramfs) => {
            vec![add, rebuild.to_owned()]
        }
        _ => vec![format!("{add} --rebuild")],
    };
    Remedy { words, commands, reboot: true }
}

/// The program and the verb that [`boot_list`] suggests.
const ADD: &str = "handover boot-list ";

/// One command for the devices of both, if both add devices to the boot list in the same way: each run rebuilds the
/// initial ramdisks.
#[must_use]
pub fn added_together(one: &str, other: &str) -> Option<String> {
    let parts = |command: &str| {
        let rest = command.strip_prefix(ADD)?;
        let (addresses, option) = rest.split_once(" --").map_or((rest, ""), |(a, b)| (a, b));
        Some((addresses.to_owned(), option.to_owned()))
    };
    let ((known, option), (more, same)) = (parts(one)?, parts(other)?);
    let option = if option.is_empty() { String::new() } else { format!(" --{option}") };
    (option.trim_start_matches(" --") == same).then(|| format!("{ADD}{known} {more}{option}"))
}

/// How a system does the same whose initial ramdisk the boot list's files cannot get into; `None` on all others.
fn without_list(platform: &Platform) -> Option<&'static str> {
    let alpine = platform.distribution.as_deref().is_some_and(|name| name.starts_with("alpine"));
    match platform.boot_loader {
        BootLoader::Nixos => Some(
            "set `boot.initrd.kernelModules = [ \"vfio_pci\" ]` and `boot.kernelParams = [ \"vfio-pci.ids=VENDOR:DEVICE\" ]` in \
             the system's configuration, which takes every device with these ids, then `nixos-rebuild boot`",
        ),
        BootLoader::Unraid { .. } => Some(
            "select it on Unraid's page Tools, System Devices (\"Bind selected to VFIO at boot\"); the rest of the system is in \
             memory, and does not keep changes",
        ),
        _ if alpine && files(platform.initramfs).is_empty() => Some(
            "boot with vfio-pci.ids=VENDOR:DEVICE on the kernel's command line, which takes every device with these ids, and \
             add vfio-pci to a file in /etc/mkinitfs/features.d that /etc/mkinitfs/mkinitfs.conf names, then `mkinitfs`",
        ),
        _ => None,
    }
}
