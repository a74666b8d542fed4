//! Remedies as commands for the system at hand: Debian, Fedora, Arch and Proxmox need different ones.
//!
//! Every command is idempotent. [`is_rebuild`] recognizes commands that only rebuild what others edited (a boot
//! loader's configuration, an initial ramdisk), so that a script of many remedies runs them once, at its end.

mod boot;
mod boot_list;
mod modules;
mod packages;
mod script;
mod shell;

pub use boot::{kernel_option, without_kernel_option};
pub use boot_list::boot_list;
pub use modules::{
    load_at_boot, memlock_for_group, module_option, unblacklist, without_module_option,
};
pub use packages::{Package, install};
pub use script::script;

use super::{InitramfsTool, Platform, Remedy};

/// The file for the module options that Handover suggests.
const MODPROBE_FILE: &str = "/etc/modprobe.d/handover.conf";

impl Remedy {
    /// A remedy without commands.
    #[must_use]
    pub fn words(words: impl Into<String>) -> Self {
        Self { words: words.into(), ..Self::default() }
    }

    /// A remedy whose commands take effect immediately.
    #[must_use]
    pub fn now(words: impl Into<String>, commands: &[&str]) -> Self {
        let commands = commands.iter().map(|&command| command.to_owned()).collect();
        Self { words: words.into(), commands, reboot: false }
    }
}

/// The command that rebuilds the initial ramdisks of a system; `None` if the tool is unknown.
#[must_use]
pub const fn rebuild_initramfs(tool: InitramfsTool) -> Option<&'static str> {
    match tool {
        InitramfsTool::InitramfsTools => Some("update-initramfs -u -k all"),
        InitramfsTool::Dracut => Some("dracut --force --regenerate-all"),
        InitramfsTool::Mkinitcpio => Some("mkinitcpio -P"),
        InitramfsTool::Unknown => None,
    }
}

/// Whether the command only rebuilds what other commands edited.
#[must_use]
pub fn is_rebuild(command: &str) -> bool {
    let initramfs =
        [InitramfsTool::InitramfsTools, InitramfsTool::Dracut, InitramfsTool::Mkinitcpio];
    boot::REBUILDS.contains(&command)
        || initramfs.into_iter().filter_map(rebuild_initramfs).any(|rebuild| rebuild == command)
}

/// A remedy that edits files that are copied into the initial ramdisk.
fn with_initramfs(platform: &Platform, words: String, mut commands: Vec<String>) -> Remedy {
    let Some(rebuild) = rebuild_initramfs(platform.initramfs) else {
        let words = format!("{words}; then rebuild the initial ramdisk, if there is one");
        return Remedy { words, commands, reboot: true };
    };
    commands.push(rebuild.to_owned());
    Remedy { words, commands, reboot: true }
}
