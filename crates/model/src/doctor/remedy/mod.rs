//! Remedies as commands for the system at hand: Debian, Fedora, Arch and Proxmox need different ones.
//!
//! Every command is idempotent. [`is_rebuild`] recognizes commands that only rebuild what others edited (a boot
//! loader's configuration, an initial ramdisk), so that a script of many remedies runs them once, at its end.

mod boot;
mod boot_list;
mod files;
mod modules;
mod packages;
mod script;
mod shell;

pub use boot::{kernel_option, other_kernel_option, without_kernel_option};
pub use boot_list::{added_together, boot_list};
pub use files::move_aside;
pub use modules::{
    load_at_boot, memlock_for_group, module_option, unblacklist, without_module_option,
};
pub use packages::{Package, install};
pub use script::{PENDING, script};

use super::{BootLoader, InitramfsTool, Platform, Remedy};

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

/// Rebuilds what a script that was stopped may have edited.
#[must_use]
pub fn rebuild_all(platform: &Platform) -> Remedy {
    let words = "make its edits take effect, or run the script again";
    let loader = boot::rebuild_loader(platform);
    let ramdisk = boot::rebuild_ramdisk(platform).filter(|ramdisk| Some(*ramdisk) != loader);
    let rebuilds = loader.into_iter().chain(ramdisk).map(str::to_owned);
    let commands = rebuilds.chain([script::DONE.to_owned()]).collect();
    Remedy { words: words.into(), commands, reboot: true }
}

/// Whether the command only rebuilds what other commands edited.
#[must_use]
pub fn is_rebuild(command: &str) -> bool {
    let initramfs =
        [InitramfsTool::InitramfsTools, InitramfsTool::Dracut, InitramfsTool::Mkinitcpio];
    boot::REBUILDS.contains(&command)
        || initramfs.into_iter().filter_map(rebuild_initramfs).any(|rebuild| rebuild == command)
}

/// How settings of modules and limits are made on a system that does not keep files in `/etc`; `None` on all others.
fn kept_elsewhere(platform: &Platform) -> Option<&'static str> {
    match platform.boot_loader {
        BootLoader::Nixos => Some(
            "in the system's configuration (boot.extraModprobeConfig, boot.kernelModules, security.pam.loginLimits), then \
             `nixos-rebuild switch`: files that NixOS writes do not keep changes",
        ),
        BootLoader::Unraid { .. } => Some(
            "in a file on the boot device, which Unraid copies at each start (/boot/config/modprobe.d, /boot/config/go): \
             the rest of the system is in memory",
        ),
        _ => None,
    }
}

/// A remedy that edits files in `/etc` that are copied into the initial ramdisk.
fn with_initramfs(platform: &Platform, words: String, mut commands: Vec<String>) -> Remedy {
    if let Some(how) = kept_elsewhere(platform) {
        return Remedy { words: format!("{words}: {how}"), commands: Vec::new(), reboot: true };
    }
    if platform.boot_loader.is_image() {
        let words =
            format!("{words}; if the initial ramdisk needs it, build it into the system's image");
        return Remedy { words, commands, reboot: true };
    }
    let Some(rebuild) = boot::rebuild_ramdisk(platform) else {
        let words = format!("{words}; then rebuild the initial ramdisk, if there is one");
        return Remedy { words, commands, reboot: true };
    };
    commands.push(rebuild.to_owned());
    Remedy { words, commands, reboot: true }
}
