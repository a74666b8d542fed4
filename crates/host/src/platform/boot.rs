//! How the system boots, detected by its tools and files.

use model::doctor::{BootLoader, InitramfsTool, Platform};

use crate::root::Root;

/// The name of the loader that booted this system (Boot Loader Interface), in UTF-16 after four bytes of attributes.
const LOADER_INFO: &str =
    "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const PROXMOX_UUIDS: &str = "etc/kernel/proxmox-boot-uuids";
/// The possible directories of systemd-boot's entries (bootctl(1)).
const ENTRIES: [&str; 3] = ["boot/loader/entries", "efi/loader/entries", "boot/efi/loader/entries"];

/// Detects the boot loader, and the tool that builds the initial ramdisk.
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

/// The loader of a Proxmox host whose EFI partitions `proxmox-boot-tool` manages: GRUB in BIOS mode and for partitions
/// marked `grub`, else systemd-boot.
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
