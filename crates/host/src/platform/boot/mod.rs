//! How the system boots: what the loader told the firmware wins over files, which another loader may have left behind.

mod firmware;
mod grub;
mod lines;
mod systemd;

use model::doctor::{BootLoader, InitramfsTool, Platform};

use crate::root::Root;
use firmware::{Firmware, Said};

const PROXMOX_UUIDS: &str = "etc/kernel/proxmox-boot-uuids";
/// XCP-ng's and XenServer's tool for the options of Xen and of its dom0.
const XEN_CMDLINE: &str = "opt/xensource/libexec/xen-cmdline";

/// Detects the boot loader, and the tool that builds the initial ramdisk.
pub fn read(root: &Root, platform: &mut Platform) {
    platform.rebuild_pending = root.exists(model::doctor::remedy::PENDING.trim_start_matches('/'));
    platform.initramfs = initramfs(root);
    platform.boot_loader = boot_loader(root);
    if platform.boot_loader == BootLoader::SystemdBoot {
        platform.unseen.push("where systemd-boot's command line comes from".into());
    }
}

fn boot_loader(root: &Root) -> BootLoader {
    if let Some(loader) = by_system(root) {
        return loader;
    }
    let firmware = Firmware::read(root);
    if let Some(loader) = proxmox(root, &firmware) {
        return loader;
    }
    match firmware.said {
        Said::Systemd => systemd::way(root, &firmware),
        Said::Limine => lines::limine(root),
        Said::Refind => refind(root),
        Said::Grub => grub::way(root).unwrap_or_default(),
        // What a loader that we do not know reads is not known either, whatever files others have left behind.
        Said::Other if firmware.stub => systemd::way(root, &firmware),
        Said::Other => BootLoader::Unknown,
        Said::Nothing | Said::Unknown => by_files(root, &firmware),
    }
}

/// rEFInd, or the GRUB that it started: GRUB tells the kernel its image (`grub_cmd_linux` in grub-core/loader/i386/linux.c).
/// If rEFInd's own file says the same, nothing says which of the two boots.
fn refind(root: &Root) -> BootLoader {
    let has_image = |path: &str| root.text(path).is_ok_and(|text| text.contains("BOOT_IMAGE="));
    if !has_image("proc/cmdline") {
        return lines::refind(root);
    }
    if has_image(lines::REFIND) {
        return BootLoader::Unknown;
    }
    grub::way(root).unwrap_or_default()
}

/// Systems that set the options of the kernel themselves, whatever the boot loader.
fn by_system(root: &Root) -> Option<BootLoader> {
    if root.exists("etc/NIXOS") {
        return Some(BootLoader::Nixos);
    }
    if root.exists("run/ostree-booted") {
        return Some(match (program(root, "rpm-ostree"), program(root, "bootc")) {
            (true, _) => BootLoader::RpmOstree,
            (false, true) => BootLoader::Bootc { ostree: program(root, "ostree") },
            (false, false) => BootLoader::Ostree { ostree: program(root, "ostree") },
        });
    }
    if root.exists("etc/unraid-version") {
        return Some(lines::unraid(root));
    }
    root.exists(XEN_CMDLINE).then_some(BootLoader::XcpNg)
}

/// The loader of a Proxmox host whose EFI partitions `proxmox-boot-tool` manages: GRUB in BIOS mode, with Secure Boot and
/// for partitions marked `grub`, else systemd-boot.
fn proxmox(root: &Root, firmware: &Firmware) -> Option<BootLoader> {
    let uuids = root.text(PROXMOX_UUIDS).ok().filter(|text| !text.is_empty())?;
    let grub = match firmware.said {
        Said::Systemd => false,
        Said::Grub | Said::Nothing => true,
        Said::Limine | Said::Refind | Said::Other => return None,
        Said::Unknown => {
            let marked =
                uuids.lines().any(|line| line.split_ascii_whitespace().nth(1) == Some("grub"));
            marked || !root.exists("sys/firmware/efi")
        }
    };
    Some(if grub { BootLoader::ProxmoxGrub } else { BootLoader::Proxmox })
}

/// By the files of boot loaders. If those of two loaders are there, nothing says which of them boots.
fn by_files(root: &Root, firmware: &Firmware) -> BootLoader {
    let grub = grub::way(root);
    let other = lines::found(root);
    let systemd = || systemd::has_files(root).then(|| systemd::way(root, firmware));
    match (grub, other) {
        (Some(_), Some(BootLoader::Limine { .. } | BootLoader::Refind { .. })) => {
            BootLoader::Unknown
        }
        (Some(grub), _) => grub,
        (None, Some(other)) => other,
        // systemd-boot always tells the firmware its name.
        (None, None) if firmware.said == Said::Nothing => BootLoader::Unknown,
        (None, None) => systemd().unwrap_or_default(),
    }
}

/// The tool that builds this system's initial ramdisk.
pub fn initramfs(root: &Root) -> InitramfsTool {
    // Debian's dracut also provides `update-initramfs`, but not `mkinitramfs`.
    if program(root, "mkinitramfs") {
        InitramfsTool::InitramfsTools
    } else if program(root, "mkinitcpio") {
        InitramfsTool::Mkinitcpio
    } else if program(root, "dracut") {
        InitramfsTool::Dracut
    } else {
        InitramfsTool::Unknown
    }
}

fn program(root: &Root, name: &str) -> bool {
    ["usr/sbin", "usr/bin", "sbin", "bin"]
        .iter()
        .any(|place| root.exists(&format!("{place}/{name}")))
}

/// The names in a directory that end like this.
fn files(root: &Root, directory: &str, end: &str) -> Vec<String> {
    let mut names = root.names(directory).unwrap_or_default();
    names.retain(|name| name.len() >= end.len() && name.to_ascii_lowercase().ends_with(end));
    names
}

/// Whether a file says in its first lines that a program writes it.
fn is_generated(text: &str) -> bool {
    const SAYS: [&str; 5] =
        ["do not edit", "generated", "created by", "automatically", "autogenerated"];
    let comments = text.lines().take(8).filter(|line| line.trim_start().starts_with('#'));
    comments.map(str::to_ascii_lowercase).any(|line| SAYS.iter().any(|says| line.contains(says)))
}

/// The values of a variable in a shell file, without comments: `name=value`, `name+=value`.
fn assignments<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let rest = line.trim_start().strip_prefix(name)?;
        let value = rest.strip_prefix("+=").or_else(|| rest.strip_prefix('='))?;
        Some(value.trim().trim_matches(['"', '\'']))
    })
}
