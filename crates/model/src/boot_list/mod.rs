//! The boot list: the functions that vfio-pci takes at each boot, and the files that implement it.
//!
//! `vfio-pci.ids=` matches by id, and so also takes the host's card if it has two equal ones. Here the initial ramdisk
//! sets `driver_override` by address before any driver is loaded (Documentation/ABI/testing/sysfs-bus-pci), and only if
//! the function still has the same ids: addresses can change between boots.

mod list;

pub use list::{BootListEntry, entries, unread_lines, with, without};

use serde::{Deserialize, Serialize};

/// The path of the boot list; one function per line.
pub const LIST: &str = "/etc/handover/reserve";

/// The message after a claim changed the boot list: rebuilding the ramdisk takes minutes, and the user must start it.
pub const TAKES_EFFECT: &str = "changes to the boot list take effect after the initial ramdisk is rebuilt \
                                (update-initramfs -u -k all, dracut --force --regenerate-all, or mkinitcpio -P)";

/// Why a host cannot apply a boot list.
pub const NO_TOOL: &str = "no tool that builds an initial ramdisk is installed: found neither initramfs-tools, dracut nor \
                           mkinitcpio";

/// The remedy for a host without a tool that builds the initial ramdisk.
pub const INSTALL_TOOL: &str = "install your distribution's tool, then retry: `apt install initramfs-tools` (Debian, Ubuntu), \
                                `dnf install dracut` (Fedora, RHEL), `zypper install dracut` (SUSE), `pacman -S mkinitcpio` \
                                (Arch)";

/// Every other file contains this text, which marks it as Handover's.
const MARK: &str = "Written by Handover";

/// The tool that builds the initial ramdisk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitramfsTool {
    /// Debian's: `update-initramfs -u -k all`.
    InitramfsTools,
    /// `dracut --force --regenerate-all`.
    Dracut,
    /// Arch's: `mkinitcpio -P`.
    Mkinitcpio,
    /// Not known.
    #[default]
    Unknown,
}

/// A file that implements the boot list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path.
    pub path: &'static str,
    /// Its permission bits.
    pub mode: u32,
    /// Its contents.
    pub text: &'static str,
}

const SCRIPT: File =
    File { path: "/etc/handover/reserve.sh", mode: 0o644, text: include_str!("files/reserve.sh") };
const INITRAMFS_TOOLS: [File; 3] = [
    SCRIPT,
    File {
        path: "/etc/initramfs-tools/scripts/init-top/handover",
        mode: 0o755,
        text: include_str!("files/initramfs-tools-init-top"),
    },
    File {
        path: "/etc/initramfs-tools/hooks/handover",
        mode: 0o755,
        text: include_str!("files/initramfs-tools-hook"),
    },
];
const DRACUT: [File; 2] = [
    SCRIPT,
    File {
        path: "/usr/lib/dracut/modules.d/90handover/module-setup.sh",
        mode: 0o755,
        text: include_str!("files/dracut-module-setup.sh"),
    },
];
const MKINITCPIO: [File; 5] = [
    SCRIPT,
    File {
        path: "/etc/handover/handover-reserve.service",
        mode: 0o644,
        text: include_str!("files/handover-reserve.service"),
    },
    File {
        path: "/etc/initcpio/hooks/handover",
        mode: 0o644,
        text: include_str!("files/mkinitcpio-hook"),
    },
    File {
        path: "/etc/initcpio/install/handover",
        mode: 0o644,
        text: include_str!("files/mkinitcpio-install"),
    },
    File {
        path: "/etc/mkinitcpio.conf.d/handover.conf",
        mode: 0o644,
        text: include_str!("files/mkinitcpio.conf"),
    },
];

/// The files that make a tool include the boot list in its initial ramdisks, in dependency order; empty if the tool is
/// unknown.
#[must_use]
pub const fn files(tool: InitramfsTool) -> &'static [File] {
    match tool {
        InitramfsTool::InitramfsTools => &INITRAMFS_TOOLS,
        InitramfsTool::Dracut => &DRACUT,
        InitramfsTool::Mkinitcpio => &MKINITCPIO,
        InitramfsTool::Unknown => &[],
    }
}

impl File {
    /// Whether the contents of an existing file are Handover's, of any version.
    #[must_use]
    pub fn is_ours(found: &str) -> bool {
        found.contains(MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_known_again_and_comes_after_what_it_needs() {
        use InitramfsTool::{Dracut, InitramfsTools, Mkinitcpio};
        for tool in [InitramfsTools, Dracut, Mkinitcpio] {
            let files = files(tool);
            assert!(files.iter().all(|file| File::is_ours(file.text)), "{tool:?}");
            for (turn, file) in files.iter().enumerate() {
                let later = &files[turn + 1..];
                let needed = later.iter().find(|later| file.text.contains(later.path));
                assert_eq!(needed, None, "{} comes first", file.path);
            }
        }
        assert!(files(InitramfsTool::Unknown).is_empty());
    }
}
