//! A disk that UEFI boots: Debian's own shim, GRUB and kernel, all signed, and the guest's ramdisk. It starts with and without
//! Secure Boot.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Builder, guest, stock, userland};
use crate::{
    cache::{Cache, Key},
    packages::{Debian, Packages, Set},
    process::run,
    progress,
    tree::Tree,
};

/// The boot loaders, and the tools that write the disk.
const SET: Set = Set {
    name: "boot loaders",
    wanted: &["dosfstools", "fdisk", "grub-efi-amd64-signed", "mtools", "shim-signed"],
    only: &[],
    from: Debian::OfL1,
};

/// The kernel's command line: the checks are those of `guest/checks`.
const GRUB: &str =
    "linux /vmlinuz console=ttyS0 quiet panic=-1 handover.run=gpu,firstboot handover.stay=1
initrd /initrd.gz
boot
";

/// The partition begins here, in bytes from the disk's start.
const START: u64 = 1 << 20;
/// Its size in KiB: FAT32, as the UEFI specification wants it, for the kernel and its ramdisk.
const SIZE_KIB: u64 = 96 << 10;

/// The disk, a compressed qcow2 file.
///
/// # Errors
/// If it is not in the cache and cannot be built.
pub fn ready() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let packages = Packages::open(&cache)?;
    let builder = Builder { cache: &cache, packages: &packages };
    let (tools, _) = userland::ready(&builder)?;
    let kernel = stock::ready(&builder, &tools)?;
    let ramdisk = guest::with_file_systems(&builder, &tools, &kernel)?;
    let key = Key::new("debian-disk").text("1").text(GRUB).part(&kernel.entry).part(&ramdisk);
    let key = packages.key(&SET, key)?;
    let entry = cache.entry(&key, |work| {
        let tree = Tree::new(work.join("tree"));
        packages.unpack(&SET, tree.root())?;
        progress::step("writing the disk with Debian's boot loaders", || {
            let partition = work.join("esp");
            write_partition(&tree, &partition, &kernel.signed(), &ramdisk.join("ssh.gz"))?;
            let raw = work.join("raw");
            write_disk(&tree, &raw, &partition)?;
            run(tools
                .command("qemu-img")?
                .args(["convert", "-q", "-c", "-f", "raw", "-O", "qcow2"])
                .arg(&raw)
                .arg(work.join("disk.qcow2")))?;
            fs::remove_file(&raw)?;
            fs::remove_file(&partition)?;
            Ok(fs::remove_dir_all(tree.root())?)
        })
    })?;
    Ok(entry.join("disk.qcow2"))
}

/// The EFI system partition. The firmware starts shim by its name, shim starts GRUB beside it, and Debian's GRUB reads its
/// configuration from `EFI/debian`.
fn write_partition(tree: &Tree, partition: &Path, kernel: &Path, ramdisk: &Path) -> Result<()> {
    run(tree
        .command("mkfs.fat")?
        .args(["-F", "32", "-n", "ESP", "-C"])
        .arg(partition)
        .arg(SIZE_KIB.to_string()))?;
    run(mtools(tree, "mmd", partition)?.args(["::EFI", "::EFI/BOOT", "::EFI/debian"]))?;
    let configuration = partition.with_extension("cfg");
    fs::write(&configuration, GRUB)?;
    let usr = tree.root().join("usr/lib");
    for (file, name) in [
        (&*usr.join("shim/shimx64.efi.signed"), "EFI/BOOT/BOOTX64.EFI"),
        (&usr.join("grub/x86_64-efi-signed/grubx64.efi.signed"), "EFI/BOOT/grubx64.efi"),
        (&configuration, "EFI/debian/grub.cfg"),
        (kernel, "vmlinuz"),
        (ramdisk, "initrd.gz"),
    ] {
        run(mtools(tree, "mcopy", partition)?.arg(file).arg(format!("::{name}")))?;
    }
    Ok(fs::remove_file(configuration)?)
}

/// A program of mtools, which works on this image.
fn mtools(tree: &Tree, program: &str, image: &Path) -> Result<Command> {
    let mut command = tree.command("mtools")?;
    command.args(["-c", program, "-i"]).arg(image);
    Ok(command)
}

/// The disk: a partition table and one partition.
fn write_disk(tree: &Tree, raw: &Path, partition: &Path) -> Result<()> {
    let mut disk = File::create(raw)?;
    disk.set_len(START + SIZE_KIB * 1024 + START)?;
    let table = format!("label: gpt\nstart={}, size={}, type=uefi\n", START / 512, SIZE_KIB * 2);
    let mut sfdisk = tree.command("sfdisk")?.arg("-q").arg(raw).stdin(Stdio::piped()).spawn()?;
    sfdisk.stdin.take().context("sfdisk has no stdin")?.write_all(table.as_bytes())?;
    ensure!(sfdisk.wait()?.success(), "sfdisk failed");
    disk.seek(SeekFrom::Start(START))?;
    std::io::copy(&mut File::open(partition)?, &mut disk)?;
    Ok(())
}
