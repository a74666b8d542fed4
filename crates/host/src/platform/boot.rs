//! How the system is booted, told by the tools and files that are there.

use model::doctor::{BootLoader, InitramfsTool, Platform};

use crate::root::Root;

/// What the loader that booted this system calls itself (Boot Loader Interface), in UTF-16 behind four bytes of
/// attributes.
const LOADER_INFO: &str =
    "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const PROXMOX_UUIDS: &str = "etc/kernel/proxmox-boot-uuids";
/// Where the partition with the entries of systemd-boot is mounted (bootctl(1)).
const ENTRIES: [&str; 3] = ["boot/loader/entries", "efi/loader/entries", "boot/efi/loader/entries"];

/// Reads what boots the system, and what makes its initial ramdisk.
pub fn read(root: &Root, platform: &mut Platform) {
    platform.boot_loader = boot_loader(root);
    if platform.boot_loader == BootLoader::SystemdBoot && !root.exists("etc/kernel/cmdline") {
        let entries = ENTRIES.into_iter().find(|entries| has_entries(root, entries));
        if entries.is_none() {
            platform.unseen.push("the entries of systemd-boot (none below /boot or /efi)".into());
        }
        let entries = entries.unwrap_or(ENTRIES[0]);
        platform.loader_entries = Some(format!("/{entries}"));
    }
    platform.initramfs = initramfs(root);
}

fn boot_loader(root: &Root) -> BootLoader {
    if root.exists("run/ostree-booted") && program(root, "rpm-ostree") {
        return BootLoader::Ostree;
    }
    if let Some(loader) = proxmox(root) {
        return loader;
    }
    if program(root, "grubby") {
        return BootLoader::GrubFedora;
    }
    if booted_by_systemd(root) {
        return BootLoader::SystemdBoot;
    }
    if root.exists("etc/default/grub") {
        let debian = program(root, "update-grub");
        return if debian { BootLoader::GrubDebian } else { BootLoader::Grub };
    }
    if ENTRIES.iter().any(|entries| has_entries(root, entries)) {
        return BootLoader::SystemdBoot;
    }
    BootLoader::Unknown
}

/// A Proxmox host whose EFI partitions are kept by `proxmox-boot-tool`: with GRUB in BIOS mode and for partitions that
/// are marked `grub`, else with systemd-boot.
fn proxmox(root: &Root) -> Option<BootLoader> {
    let uuids = root.text(PROXMOX_UUIDS).ok().filter(|text| !text.is_empty())?;
    let marked = uuids.lines().any(|line| line.split_ascii_whitespace().nth(1) == Some("grub"));
    let grub = marked || !root.exists("sys/firmware/efi");
    Some(if grub { BootLoader::GrubDebian } else { BootLoader::Proxmox })
}

fn booted_by_systemd(root: &Root) -> bool {
    let Ok(info) = root.bytes(LOADER_INFO, 4096) else { return false };
    let text: Vec<u8> = info.into_iter().skip(4).step_by(2).collect();
    text.starts_with(b"systemd-boot") || text.starts_with(b"systemd-stub")
}

fn has_entries(root: &Root, directory: &str) -> bool {
    root.names(directory).is_ok_and(|names| names.iter().any(|name| name.ends_with(".conf")))
}

/// What makes this system's initial ramdisk.
pub fn initramfs(root: &Root) -> InitramfsTool {
    // Debian's dracut brings an `update-initramfs` too, but no `mkinitramfs`.
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
