//! How to mend something on the system at hand: the same remedy is other commands on Debian, Fedora, Arch or Proxmox.
//!
//! Every command may be given twice: it looks first, or writes the same again. Commands that only rebuild what was
//! edited before (a boot loader's configuration, an initial ramdisk) are known by [`is_rebuild`], so that a script of
//! many remedies gives them once, at its end.

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

/// Where options of modules that this program advises go.
const MODPROBE_FILE: &str = "/etc/modprobe.d/handover.conf";

impl Remedy {
    /// A remedy that no command does.
    #[must_use]
    pub fn words(words: impl Into<String>) -> Self {
        Self { words: words.into(), ..Self::default() }
    }

    /// A remedy by commands that takes effect at once.
    #[must_use]
    pub fn now(words: impl Into<String>, commands: &[&str]) -> Self {
        let commands = commands.iter().map(|&command| command.to_owned()).collect();
        Self { words: words.into(), commands, reboot: false }
    }
}

/// What makes the initial ramdisks of a system again; `None` where that is not known.
#[must_use]
pub const fn rebuild_initramfs(tool: InitramfsTool) -> Option<&'static str> {
    match tool {
        InitramfsTool::InitramfsTools => Some("update-initramfs -u -k all"),
        InitramfsTool::Dracut => Some("dracut --force --regenerate-all"),
        InitramfsTool::Mkinitcpio => Some("mkinitcpio -P"),
        InitramfsTool::Unknown => None,
    }
}

/// Whether a command only rebuilds what other commands edited.
#[must_use]
pub fn is_rebuild(command: &str) -> bool {
    let initramfs =
        [InitramfsTool::InitramfsTools, InitramfsTool::Dracut, InitramfsTool::Mkinitcpio];
    boot::REBUILDS.contains(&command)
        || initramfs.into_iter().filter_map(rebuild_initramfs).any(|rebuild| rebuild == command)
}

/// A remedy that edits files of which the initial ramdisk has a copy.
fn with_initramfs(platform: &Platform, words: String, mut commands: Vec<String>) -> Remedy {
    let Some(rebuild) = rebuild_initramfs(platform.initramfs) else {
        let words = format!("{words}; then make the initial ramdisk again, if there is one");
        return Remedy { words, commands, reboot: true };
    };
    commands.push(rebuild.to_owned());
    Remedy { words, commands, reboot: true }
}
