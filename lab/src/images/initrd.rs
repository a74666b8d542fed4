//! L1's initrd: the first stage, with the modules for its disks, and a layer of files that change often, which it
//! mounts over the file systems.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Builder, Kernel, sources};
use crate::{cache::Key, cpio::Archive, process::run, tree::Tree};

/// The modules for the first stage, which has no modprobe: the disks, their file system, the shares; and first an IOMMU
/// whose driver is a module, because the devices behind it wait for that driver.
const BOOT_MODULES: &[&str] = &[
    "virtio_iommu",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "erofs",
    "overlay",
    "9p",
    "9pnet_virtio",
];

/// The initrd for this kernel.
#[derive(Debug, Clone)]
pub struct Initrd {
    /// The whole initrd.
    pub whole: PathBuf,
    /// The part that mounts L1's root, without the first stage: it is prepended to another tool's initrd.
    pub base: PathBuf,
}

/// The initrd for this kernel.
pub fn ready(
    builder: &Builder,
    tools: &Tree,
    kernel: &Kernel,
    layer: &Path,
    guest: &Path,
) -> Result<Initrd> {
    let scripts = sources().join("l1");
    let key = Key::new("initrd")
        .text("3")
        .text(&BOOT_MODULES.join(" "))
        .part(&kernel.entry)
        .part(layer)
        .part(guest)
        .source(&scripts)?;
    let entry = builder.cache.entry(&key, |work| {
        let base = work.join("base");
        let mut archive = Archive::new(BufWriter::new(File::create(&base)?));
        archive.folder("lab")?;
        archive.file("lab/busybox", &tools.root().join("usr/bin/busybox"))?;
        archive.data("lab/root", 0o755, &fs::read(scripts.join("root"))?)?;
        archive.folder("modules")?;
        add_modules(&mut archive, tools, kernel, BOOT_MODULES)?;
        add_layer(&mut archive, &scripts, layer, guest)?;
        archive.finish().map(drop)?;
        // The kernel unpacks concatenated archives (Documentation/driver-api/early-userspace/buffer-format.rst).
        let whole = work.join("initrd");
        fs::copy(&base, &whole)?;
        let mut stage = Archive::new(BufWriter::new(File::options().append(true).open(&whole)?));
        stage.folder("dev")?;
        stage.data("init", 0o755, &fs::read(scripts.join("init"))?)?;
        stage.finish().map(drop)
    })?;
    Ok(Initrd { whole: entry.join("initrd"), base: entry.join("base") })
}

/// Adds the layer that is mounted over the file systems.
fn add_layer<W: std::io::Write>(
    archive: &mut Archive<W>,
    scripts: &Path,
    layer: &Path,
    guest: &Path,
) -> Result<()> {
    archive.folder("layer")?;
    archive.tree("layer/usr", &layer.join("usr"))?;
    for dir in ["layer/opt", "layer/opt/lab"] {
        archive.folder(dir)?;
    }
    for script in ["start", "systemd", "libvirt", "lose-writes", "podman", "launcher"] {
        let data = fs::read(scripts.join(script))?;
        archive.data(&format!("layer/opt/lab/{script}"), 0o755, &data)?;
    }
    archive.folder("layer/opt/lab/guest")?;
    for initrd in ["initrd.gz", "ssh.gz"] {
        archive.file(&format!("layer/opt/lab/guest/{initrd}"), &guest.join(initrd))?;
    }
    Ok(())
}

/// Adds these modules and their dependencies to `modules/`, and the order of loading as `modules/order`.
pub fn add_modules<W: std::io::Write>(
    archive: &mut Archive<W>,
    tools: &Tree,
    kernel: &Kernel,
    names: &[&str],
) -> Result<()> {
    let mut order: Vec<PathBuf> = Vec::new();
    for name in names {
        let shown = run(tools.command("modprobe")?.arg("-d").arg(kernel.modules_base()).args([
            "-S",
            &kernel.version,
            "--show-depends",
            name,
        ]));
        // Skips a module that this kernel does not have, or has built in.
        for line in shown.unwrap_or_default().lines() {
            if let Some(path) = line.strip_prefix("insmod ") {
                let path = PathBuf::from(path.trim());
                if !order.contains(&path) {
                    order.push(path);
                }
            }
        }
    }
    let mut list = String::new();
    for path in order {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        archive.file(&format!("modules/{name}"), &path)?;
        list += &format!("/modules/{name}\n");
    }
    archive.data("modules/order", 0o644, list.as_bytes())
}
