//! Reserving functions for machines by address, from the next boot on.
//!
//! `vfio-pci.ids=` reserves by id, and so takes the host's own card too where two are alike. Here the initial ramdisk
//! sets `driver_override` of one address before any driver is loaded (Documentation/ABI/testing/sysfs-bus-pci).

use super::super::{InitramfsTool, Platform, Remedy};
use super::shell::{append_line, write_file};
use super::with_initramfs;
use crate::Function;

/// The list of what is reserved; one function a line.
const LIST: &str = "/etc/handover/reserve";

/// Keeps functions for vfio from the next boot on: no other driver gets them. The function at the address is only
/// taken if it still has the same ids then.
#[must_use]
pub fn reserve_at_boot(platform: &Platform, functions: &[&Function]) -> Remedy {
    let names: Vec<String> =
        functions.iter().map(|function| function.address.to_string()).collect();
    let words = format!(
        "reserve {} by address from the next boot on (listed in {LIST}; delete the line to undo)",
        names.join(", ")
    );
    let hooks = hooks(platform.initramfs);
    if hooks.is_empty() || functions.is_empty() {
        return Remedy::words(format!(
            "{words}: have the initial ramdisk write the driver's name into driver_override before udev starts; \
             the tool that makes it is not known here"
        ));
    }
    let mut commands: Vec<String> = functions
        .iter()
        .map(|function| {
            let Function { address, vendor, device, vfio_driver, .. } = function;
            append_line(LIST, &format!("{address} 0x{vendor} 0x{device} {vfio_driver}"))
        })
        .collect();
    commands.push(write_file("/etc/handover/reserve.sh", "644", include_str!("files/reserve.sh")));
    commands.extend(hooks);
    with_initramfs(platform, words, commands)
}

/// What has a tool put the script and the list into its images; none where the tool is not known.
fn hooks(tool: InitramfsTool) -> Vec<String> {
    match tool {
        InitramfsTool::InitramfsTools => vec![
            write_file(
                "/etc/initramfs-tools/hooks/handover",
                "755",
                include_str!("files/initramfs-tools-hook"),
            ),
            write_file(
                "/etc/initramfs-tools/scripts/init-top/handover",
                "755",
                include_str!("files/initramfs-tools-init-top"),
            ),
        ],
        InitramfsTool::Dracut => vec![write_file(
            "/usr/lib/dracut/modules.d/90handover/module-setup.sh",
            "755",
            include_str!("files/dracut-module-setup.sh"),
        )],
        InitramfsTool::Mkinitcpio => vec![
            write_file(
                "/etc/handover/handover-reserve.service",
                "644",
                include_str!("files/handover-reserve.service"),
            ),
            write_file(
                "/etc/initcpio/install/handover",
                "644",
                include_str!("files/mkinitcpio-install"),
            ),
            write_file(
                "/etc/initcpio/hooks/handover",
                "644",
                include_str!("files/mkinitcpio-hook"),
            ),
            write_file(
                "/etc/mkinitcpio.conf.d/handover.conf",
                "644",
                include_str!("files/mkinitcpio.conf"),
            ),
        ],
        InitramfsTool::Unknown => Vec::new(),
    }
}
