//! The guest: a small machine that L1 starts, which boots in seconds, reports its devices and tests them. It uses L1's
//! kernel.

use std::{
    fs::{self, File, OpenOptions},
    io::BufWriter,
    path::PathBuf,
    process::{ChildStdin, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Builder, Kernel, initrd::add_modules, sources};
use crate::{cache::Key, cpio::Archive, tree::Tree};

/// The drivers for the devices of the topologies.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_scsi",
    "ahci",
    "sd_mod",
    "sr_mod",
    "nvme",
    "e1000e",
    "igb",
    "igbvf",
    "af_packet",
    "evdev",
    "button",
    "isofs",
];

/// An SSH server, its tool for keys, and their libraries: only for guests that are logged in to, because the files are as
/// large as all others together.
const SSH: &[(&str, &str)] = &[
    ("bin/dropbear", "usr/sbin/dropbear"),
    ("bin/dropbearconvert", "usr/bin/dropbearconvert"),
    ("lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
    ("lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
    ("lib/x86_64-linux-gnu/libcrypt.so.1", "usr/lib/x86_64-linux-gnu/libcrypt.so.1"),
    ("lib/x86_64-linux-gnu/libgmp.so.10", "usr/lib/x86_64-linux-gnu/libgmp.so.10"),
    ("lib/x86_64-linux-gnu/libtomcrypt.so.1", "usr/lib/x86_64-linux-gnu/libtomcrypt.so.1"),
    ("lib/x86_64-linux-gnu/libtommath.so.1", "usr/lib/x86_64-linux-gnu/libtommath.so.1"),
    ("lib/x86_64-linux-gnu/libz.so.1", "usr/lib/x86_64-linux-gnu/libz.so.1"),
];

/// The directory with the guest's `initrd.gz`, and `ssh.gz` with an SSH server.
pub fn ready(builder: &Builder, tools: &Tree, kernel: &Kernel) -> Result<PathBuf> {
    let scripts = sources().join("guest");
    let key = Key::new("guest")
        .text("2")
        .text(&MODULES.join(" "))
        .part(&kernel.entry)
        .source(&scripts)?;
    builder.cache.entry(&key, |work| {
        let plain = work.join("initrd.gz");
        compressed(File::create(&plain)?, |archive| {
            for dir in ["bin", "dev", "modules"] {
                archive.folder(dir)?;
            }
            archive.file("bin/busybox", &tools.root().join("usr/bin/busybox"))?;
            archive.data("init", 0o755, &fs::read(scripts.join("init"))?)?;
            archive.tree("checks", &scripts.join("checks"))?;
            add_modules(archive, tools, kernel, MODULES)
        })?;
        // The kernel unpacks one archive after another (Documentation/driver-api/early-userspace/buffer-format.rst).
        let ssh = work.join("ssh.gz");
        fs::copy(&plain, &ssh)?;
        compressed(OpenOptions::new().append(true).open(&ssh)?, |archive| {
            for dir in ["lib", "lib/x86_64-linux-gnu", "lib64"] {
                archive.folder(dir)?;
            }
            SSH.iter().try_for_each(|(name, file)| archive.file(name, &tools.root().join(file)))
        })
    })
}

/// Writes a compressed archive to a file.
fn compressed(
    file: File,
    fill: impl FnOnce(&mut Archive<BufWriter<ChildStdin>>) -> Result<()>,
) -> Result<()> {
    let mut gzip =
        Command::new("gzip").args(["-1", "-n"]).stdin(Stdio::piped()).stdout(file).spawn()?;
    let pipe = gzip.stdin.take().context("gzip has no stdin")?;
    let mut archive = Archive::new(BufWriter::new(pipe));
    fill(&mut archive)?;
    drop(archive.finish()?);
    ensure!(gzip.wait()?.success(), "gzip failed");
    Ok(())
}
