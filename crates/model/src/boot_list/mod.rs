//! Reserving functions for machines by address, from the next boot on: the files that do it.
//!
//! `vfio-pci.ids=` reserves by id, and so takes the host's own card too where two are alike. Here the initial ramdisk
//! sets `driver_override` of one address before any driver is loaded (Documentation/ABI/testing/sysfs-bus-pci), and only
//! where the function there still has the same ids: addresses can change between boots.

mod list;

pub use list::{BootListEntry, entries, with, without};

use serde::{Deserialize, Serialize};

/// The list of what is reserved; one function a line.
pub const LIST: &str = "/etc/handover/reserve";

/// What is said to who changes the list by a claim: the tool that makes the ramdisk takes minutes, and is its owner's to run.
pub const TAKES_EFFECT: &str = "what is reserved for the next boots takes effect when the initial ramdisk is made again \
    (update-initramfs -u -k all, dracut --force --regenerate-all, or mkinitcpio -P)";

/// What each of the other files has in it: so it is known as Handover's.
const MARK: &str = "Written by Handover";

/// What makes an initial ramdisk.
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

/// A file that puts the list to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: &'static str,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it.
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

/// What has a tool put the list into its initial ramdisks, each after what it needs; none where the tool is not known.
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
    /// Whether a text that is found in its place is Handover's, of this version or another.
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
