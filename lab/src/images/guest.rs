//! The guest: a small machine that L1 starts, which boots in seconds, reports its devices and tests them. It uses L1's
//! kernel.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Builder, Kernel, initrd::add_modules, sources};
use crate::{cache::Key, cpio::Archive, tree::Tree};

/// The drivers for the devices of the topologies.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "nvme",
    "e1000e",
    "igb",
    "igbvf",
    "af_packet",
    "evdev",
    "button",
];

/// The directory with the guest's `initrd.gz`.
pub fn ready(builder: &Builder, tools: &Tree, kernel: &Kernel) -> Result<PathBuf> {
    let scripts = sources().join("guest");
    let key = Key::new("guest").text(&MODULES.join(" ")).part(&kernel.entry).source(&scripts)?;
    builder.cache.entry(&key, |work| {
        let mut gzip = Command::new("gzip")
            .args(["-1", "-n"])
            .stdin(Stdio::piped())
            .stdout(File::create(work.join("initrd.gz"))?)
            .spawn()?;
        let pipe = gzip.stdin.take().context("gzip has no stdin")?;
        let mut archive = Archive::new(std::io::BufWriter::new(pipe));
        for dir in ["bin", "dev", "modules"] {
            archive.folder(dir)?;
        }
        archive.file("bin/busybox", &tools.root().join("usr/bin/busybox"))?;
        archive.data("init", 0o755, &fs::read(scripts.join("init"))?)?;
        archive.tree("checks", &scripts.join("checks"))?;
        add_modules(&mut archive, tools, kernel, MODULES)?;
        drop(archive.finish()?);
        ensure!(gzip.wait()?.success(), "gzip failed");
        Ok(())
    })
}
