//! systemd-boot and unified kernel images: which file sets the options of the kernel, and which tool applies it.

use model::doctor::BootLoader;

use super::firmware::{Firmware, Said};
use super::{assignments, files, is_generated, program};
use crate::root::Root;

/// The possible directories of systemd-boot's entries (bootctl(1)).
const ENTRIES: [&str; 3] = ["boot/loader/entries", "efi/loader/entries", "boot/efi/loader/entries"];
/// The possible directories of unified kernel images (Boot Loader Specification, type #2).
const IMAGES: [&str; 3] = ["boot/EFI/Linux", "efi/EFI/Linux", "boot/efi/EFI/Linux"];
const CMDLINE: &str = "etc/kernel/cmdline";
const DROP_INS: &str = "etc/cmdline.d";
const PRESETS: &str = "etc/mkinitcpio.d";

/// Whether systemd-boot has entries or unified kernel images here.
pub fn has_files(root: &Root) -> bool {
    ENTRIES.iter().any(|place| !files(root, place, ".conf").is_empty()) || has_images(root)
}

fn has_images(root: &Root) -> bool {
    IMAGES.iter().any(|place| !files(root, place, ".efi").is_empty())
}

/// How options are set.
pub fn way(root: &Root, firmware: &Firmware) -> BootLoader {
    let tools = [
        ("kernelstub", BootLoader::Kernelstub),
        ("clr-boot-manager", BootLoader::ClrBootManager),
        ("sdbootutil", BootLoader::Sdbootutil),
        ("sdboot-manage", BootLoader::SdbootManage),
    ];
    for (tool, loader) in tools {
        if program(root, tool) {
            return loader;
        }
    }
    let place = ENTRIES.into_iter().find(|place| !files(root, place, ".conf").is_empty());
    let unified = firmware.is_unified().unwrap_or_else(|| place.is_none() && has_images(root));
    match place {
        _ if unified => unified_image(root),
        Some(place) => entries(root, place, firmware),
        // The entries cannot be seen without root; the file can.
        None if root.exists(CMDLINE) => BootLoader::KernelInstall { file: true },
        None => BootLoader::SystemdBoot,
    }
}

/// Entries that kernel-install wrote are written again for each kernel; those of other programs likewise.
fn entries(root: &Root, place: &str, firmware: &Firmware) -> BootLoader {
    let booted = firmware.entry.clone().filter(|_| firmware.said == Said::Systemd);
    let names = files(root, place, ".conf");
    let names = match booted {
        Some(booted) if names.contains(&booted) => vec![booted],
        _ => names,
    };
    let texts = names.iter().map(|name| root.text(&format!("{place}/{name}")));
    let Ok(texts) = texts.collect::<Result<Vec<String>, _>>() else {
        let file = root.exists(CMDLINE);
        return if file { BootLoader::KernelInstall { file } } else { BootLoader::SystemdBoot };
    };
    // Before version 250 kernel-install wrote no comment, but the machine's id.
    let installed = |text: &String| {
        text.contains("90-loaderentry.install")
            || text.lines().any(|line| line.trim_start().starts_with("machine-id"))
    };
    if texts.iter().any(installed) {
        return BootLoader::KernelInstall { file: root.exists(CMDLINE) };
    }
    if texts.iter().any(|text| is_generated(text)) {
        return BootLoader::SystemdBoot;
    }
    BootLoader::Entries { directory: format!("/{place}") }
}

/// The command line is a part of the image: the tool that builds it decides where it comes from.
fn unified_image(root: &Root) -> BootLoader {
    let text = |file: &str| root.text(file).unwrap_or_default();
    let install = ["etc/kernel/install.conf", "usr/lib/kernel/install.conf"].map(text).join("\n");
    let by_install = assignments(&install, "layout").any(|layout| layout == "uki");
    // ukify(1): `Cmdline=` is the text, or `@` and a file.
    let ukify = text("etc/kernel/uki.conf");
    let inline = assignments(&ukify, "Cmdline").any(|one| one != "@/etc/kernel/cmdline");
    let file = root.exists(CMDLINE);
    if by_install && !inline {
        return BootLoader::KernelInstall { file };
    }
    let drop_ins = !files(root, DROP_INS, ".conf").is_empty();
    if program(root, "mkinitcpio") && builds_images(root) && (file || drop_ins) {
        return BootLoader::Mkinitcpio { drop_ins, file };
    }
    if program(root, "dracut") && dracut_has_cmdline(root) {
        return BootLoader::Dracut;
    }
    if program(root, "kernel-install") && file && !inline && !program(root, "mkinitcpio") {
        return BootLoader::KernelInstall { file };
    }
    BootLoader::SystemdBoot
}

/// Whether mkinitcpio's presets build unified images, from the usual files (mkinitcpio(8)). Without any preset, nothing says
/// that another program builds them.
fn builds_images(root: &Root) -> bool {
    let presets = files(root, PRESETS, ".preset").into_iter();
    let mut texts = presets.filter_map(|name| root.text(&format!("{PRESETS}/{name}")).ok());
    let Some(first) = texts.next() else { return true };
    let lines: Vec<String> =
        std::iter::once(first).chain(texts).flat_map(|text| lines(&text)).collect();
    let unified = lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .any(|(name, _)| name.ends_with("_uki") || name.ends_with("_efi_image"));
    let elsewhere = lines
        .iter()
        .filter_map(|line| line.split_once("--cmdline"))
        .any(|(_, file)| !file.trim_start_matches([' ', '=']).starts_with("/etc/kernel/cmdline"));
    unified && !elsewhere
}

/// The lines of a shell file without comments.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Whether dracut builds unified images with a command line from its configuration (dracut.conf(5)).
fn dracut_has_cmdline(root: &Root) -> bool {
    let directory = "etc/dracut.conf.d";
    let drop_ins = files(root, directory, ".conf").into_iter();
    let paths = drop_ins.map(|name| format!("{directory}/{name}"));
    let paths = std::iter::once("etc/dracut.conf".to_owned()).chain(paths);
    let text = paths.filter_map(|path| root.text(&path).ok()).collect::<Vec<_>>().join("\n");
    assignments(&text, "uefi").last() == Some("yes")
        && assignments(&text, "kernel_cmdline").next().is_some()
}
