//! Options on the kernel's command line.

use super::super::{BootLoader, InitramfsTool, Platform, Remedy};
use super::shell::{append_line, edit, pattern, quoted};

/// Debian's and Ubuntu's grub-mkconfig sources these files after `/etc/default/grub`.
const GRUB_DROP_IN: &str = "/etc/default/grub.d/handover.cfg";
const GRUB_FILE: &str = "/etc/default/grub";
/// One line, the whole command line (kernel-install(8)).
const CMDLINE_FILE: &str = "/etc/kernel/cmdline";

const UPDATE_GRUB: &str = "update-grub";
const GRUB_MKCONFIG: &str = "grub-mkconfig -o /boot/grub/grub.cfg";
const GRUB2_MKCONFIG: &str = "grub2-mkconfig -o /boot/grub2/grub.cfg";
const PROXMOX_REFRESH: &str = "proxmox-boot-tool refresh";
const MKINITCPIO: &str = "mkinitcpio -P";
/// Rewrites the entries of all kernels with the command line of `/etc/kernel/cmdline`.
const KERNEL_INSTALL: &str = "for modules in /lib/modules/*; do
    version=${modules##*/}
    for image in \"$modules/vmlinuz\" \"/boot/vmlinuz-$version\"; do
        [ ! -f \"$image\" ] || { kernel-install add \"$version\" \"$image\"; break; }
    done
done";

/// Commands that make edits of the command line effective at the next boot.
pub(super) const REBUILDS: [&str; 5] =
    [UPDATE_GRUB, GRUB_MKCONFIG, GRUB2_MKCONFIG, PROXMOX_REFRESH, KERNEL_INSTALL];

/// Adds an option, such as `intel_iommu=on`, to the kernel's command line.
#[must_use]
pub fn kernel_option(platform: &Platform, option: &str) -> Remedy {
    let commands = match platform.boot_loader {
        BootLoader::GrubDebian => vec![append_line(GRUB_DROP_IN, &grub_line(option))],
        BootLoader::Grub => vec![append_line(GRUB_FILE, &grub_line(option))],
        BootLoader::GrubFedora => {
            vec![format!("grubby --update-kernel=ALL --args={}", quoted(option))]
        }
        BootLoader::Ostree => {
            vec![format!("rpm-ostree kargs --append-if-missing={}", quoted(option))]
        }
        BootLoader::SystemdBoot | BootLoader::Proxmox => {
            let word = pattern(option);
            let add =
                format!(r"1{{/(^|[[:space:]]){word}([[:space:]]|$)/!s/[[:space:]]*$/ {option}/}}");
            vec![edit(&option_files(platform), &[with_key(platform, add)])]
        }
        BootLoader::Unknown => Vec::new(),
    };
    remedy(platform, format!("boot with {option} on the kernel's command line"), commands)
}

/// Removes an option from the kernel's command line, with any value if none is given: `pcie_acs_override` or
/// `amd_iommu=off`.
#[must_use]
pub fn without_kernel_option(platform: &Platform, option: &str) -> Remedy {
    let word = if option.contains('=') {
        pattern(option)
    } else {
        format!("{}=?[[:alnum:]_.,:/=-]*", pattern(option))
    };
    // The option ends where the text, the quoted value or the word ends.
    let take = format!(r#"s/(^|[^[:alnum:]_.,-]){word}([[:space:]"']|$)/\1\2/g"#);
    let commands = match platform.boot_loader {
        BootLoader::GrubDebian | BootLoader::Grub => {
            let take = format!("/^[[:space:]]*GRUB_CMDLINE_LINUX/{take}");
            vec![edit(&format!("{GRUB_FILE} {GRUB_FILE}.d/*.cfg"), &[take])]
        }
        BootLoader::GrubFedora => {
            vec![format!("grubby --update-kernel=ALL --remove-args={}", quoted(option))]
        }
        BootLoader::Ostree => {
            vec![format!("rpm-ostree kargs --delete-if-present={}", quoted(option))]
        }
        BootLoader::SystemdBoot | BootLoader::Proxmox => {
            vec![edit(&option_files(platform), &[with_key(platform, take)])]
        }
        BootLoader::Unknown => Vec::new(),
    };
    remedy(platform, format!("boot without {option} on the kernel's command line"), commands)
}

/// `/etc/default/grub` and its drop-ins are shell scripts: a line at the end can extend the variable.
fn grub_line(option: &str) -> String {
    format!("GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {option}\"")
}

/// The files that hold the command line.
fn option_files(platform: &Platform) -> String {
    match &platform.loader_entries {
        Some(entries) => format!("{}/*.conf", quoted(entries)),
        None => CMDLINE_FILE.to_owned(),
    }
}

/// Turns a sed expression for the first line of a file into one for the `options` lines of loader entries, if these are
/// edited (Boot Loader Specification, type #1).
fn with_key(platform: &Platform, expression: String) -> String {
    if platform.loader_entries.is_none() {
        return expression;
    }
    let expression = expression.strip_prefix('1').map_or(expression.clone(), str::to_owned);
    format!("/^options[[:space:]]/{expression}")
}

fn remedy(platform: &Platform, words: String, mut commands: Vec<String>) -> Remedy {
    if commands.is_empty() {
        let words = format!("{words}: edit the configuration of your boot loader (not recognized)");
        return Remedy { words, commands, reboot: true };
    }
    commands.extend(rebuild(platform).map(str::to_owned));
    Remedy { words, commands, reboot: true }
}

/// The command to run after the files were edited; `None` if none is needed.
fn rebuild(platform: &Platform) -> Option<&'static str> {
    let suse = platform.distribution.as_deref().is_some_and(|name| name.contains("suse"));
    match platform.boot_loader {
        BootLoader::GrubDebian => Some(UPDATE_GRUB),
        BootLoader::Grub if suse => Some(GRUB2_MKCONFIG),
        BootLoader::Grub => Some(GRUB_MKCONFIG),
        BootLoader::Proxmox => Some(PROXMOX_REFRESH),
        BootLoader::SystemdBoot if platform.loader_entries.is_some() => None,
        // If mkinitcpio builds unified images, it reads the command line from the same file.
        BootLoader::SystemdBoot if platform.initramfs == InitramfsTool::Mkinitcpio => {
            Some(MKINITCPIO)
        }
        BootLoader::SystemdBoot => Some(KERNEL_INSTALL),
        BootLoader::GrubFedora | BootLoader::Ostree | BootLoader::Unknown => None,
    }
}
