//! L1's initrd: the first stage with the modules that it needs to reach its disks, and a layer of all that
//! changes often, which it lays over the file systems.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Builder, Kernel, sources};
use crate::{cache::Key, cpio::Archive, process::run, tree::Tree};

/// What the first stage needs before it has a modprobe: the disks, their file system, the shares; and first of all an
/// IOMMU whose driver is a module, for the devices behind it wait for that one.
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
pub fn ready(
    builder: &Builder,
    tools: &Tree,
    kernel: &Kernel,
    layer: &Path,
    guest: &Path,
) -> Result<PathBuf> {
    let scripts = sources().join("l1");
    let key = Key::new("initrd")
        .text("2")
        .text(&BOOT_MODULES.join(" "))
        .part(&kernel.entry)
        .part(layer)
        .part(guest)
        .source(&scripts)?;
    let entry = builder.cache.entry(&key, |work| {
        let to = BufWriter::new(File::create(work.join("initrd"))?);
        let mut archive = Archive::new(to);
        for dir in ["bin", "dev", "modules"] {
            archive.folder(dir)?;
        }
        archive.file("bin/busybox", &tools.root().join("usr/bin/busybox"))?;
        archive.data("init", 0o755, &fs::read(scripts.join("init"))?)?;
        add_modules(&mut archive, tools, kernel, BOOT_MODULES)?;
        archive.folder("layer")?;
        archive.tree("layer/usr", &layer.join("usr"))?;
        for dir in ["layer/opt", "layer/opt/lab"] {
            archive.folder(dir)?;
        }
        for script in ["start", "libvirt", "lose-writes", "podman", "launcher"] {
            let data = fs::read(scripts.join(script))?;
            archive.data(&format!("layer/opt/lab/{script}"), 0o755, &data)?;
        }
        archive.folder("layer/opt/lab/guest")?;
        archive.file("layer/opt/lab/guest/initrd.gz", &guest.join("initrd.gz"))?;
        archive.finish().map(drop)
    })?;
    Ok(entry.join("initrd"))
}

/// Adds these modules and all they depend on to `modules/`, and their order of loading as `modules/order`.
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
        // A module that this kernel has not, or has built in, is not needed here.
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
