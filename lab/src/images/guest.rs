//! The guest: a small machine that L1 starts, which boots in seconds, reports its devices and tests them. It uses L1's
//! kernel.

use std::{
    fs::{self, File, OpenOptions},
    io::BufWriter,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Builder, Kernel, initrd::add_modules, sources};
use crate::{
    cache::Key,
    cpio::Archive,
    packages::{Debian, Set},
    tree::Tree,
};

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
    "virtio_console",
    "tpm_crb",
    "tpm_tis",
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

/// Debian's agent for guests. Its libraries are L1's.
const AGENT: Set = Set {
    name: "guest agent",
    wanted: &["qemu-guest-agent"],
    only: &["qemu-guest-agent_"],
    from: Debian::OfL1,
};

/// The libraries of the agent that the SSH server does not have.
const OF_AGENT: &[&str] = &[
    "libatomic.so.1",
    "libcap.so.2",
    "libglib-2.0.so.0",
    "libgmodule-2.0.so.0",
    "libm.so.6",
    "libnuma.so.1",
    "libpcre2-8.so.0",
    "libudev.so.1",
    "liburing.so.2",
];

/// The directory with the guest's `initrd.gz`, and `ssh.gz` with an SSH server and the agent.
pub fn ready(builder: &Builder, tools: &Tree, kernel: &Kernel) -> Result<PathBuf> {
    with_modules(builder, tools, kernel, MODULES)
}

/// The same with drivers for UEFI's variables and for disks with a file system.
pub fn with_file_systems(builder: &Builder, tools: &Tree, kernel: &Kernel) -> Result<PathBuf> {
    with_modules(builder, tools, kernel, &[MODULES, &["efivarfs", "ext4"]].concat())
}

fn with_modules(
    builder: &Builder,
    tools: &Tree,
    kernel: &Kernel,
    modules: &[&str],
) -> Result<PathBuf> {
    let scripts = sources().join("guest");
    let key = Key::new("guest")
        .text("3")
        .text(&modules.join(" "))
        .part(&kernel.entry)
        .source(&scripts)?;
    let key = builder.packages.key(&AGENT, key)?;
    builder.cache.entry(&key, |work| {
        let plain = work.join("initrd.gz");
        compressed(File::create(&plain)?, |archive| {
            for dir in ["bin", "dev", "modules"] {
                archive.folder(dir)?;
            }
            archive.file("bin/busybox", &tools.root().join("usr/bin/busybox"))?;
            archive.data("init", 0o755, &fs::read(scripts.join("init"))?)?;
            archive.tree("checks", &scripts.join("checks"))?;
            add_modules(archive, tools, kernel, modules)
        })?;
        // The kernel unpacks one archive after another (Documentation/driver-api/early-userspace/buffer-format.rst).
        let ssh = work.join("ssh.gz");
        fs::copy(&plain, &ssh)?;
        compressed(OpenOptions::new().append(true).open(&ssh)?, |archive| {
            for dir in ["lib", "lib/x86_64-linux-gnu", "lib64"] {
                archive.folder(dir)?;
            }
            SSH.iter().try_for_each(|(name, file)| archive.file(name, &tools.root().join(file)))?;
            let dir = Path::new("lib/x86_64-linux-gnu");
            OF_AGENT.iter().try_for_each(|name| {
                let name = dir.join(name);
                archive.file(&name.display().to_string(), &tools.root().join("usr").join(&name))
            })?;
            let agent = work.join("agent");
            builder.packages.unpack(&AGENT, &agent)?;
            archive.file("bin/qemu-ga", &agent.join("usr/sbin/qemu-ga"))?;
            Ok(fs::remove_dir_all(agent)?)
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
