//! Debian's kernel: nothing to compile, but it boots more slowly and has no iommufd.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Builder, Kernel};
use crate::{
    cache::Key,
    packages::{Debian, Set},
    process::run,
    progress,
    tree::Tree,
};

const SET: Set = Set {
    name: "stock kernel",
    wanted: &["linux-image-amd64"],
    only: &["linux-"],
    from: Debian::OfL1,
};

/// Modules that no emulated machine can use, below `kernel/`: half of all, which need not be unpacked, indexed and
/// copied.
const LEFT_OUT: &[&str] = &[
    "drivers/comedi",
    "drivers/gpu/drm/amd",
    "drivers/gpu/drm/i915",
    "drivers/gpu/drm/nouveau",
    "drivers/gpu/drm/radeon",
    "drivers/gpu/drm/xe",
    "drivers/hwmon",
    "drivers/iio",
    "drivers/infiniband",
    "drivers/isdn",
    "drivers/media",
    "drivers/mtd",
    "drivers/net/can",
    "drivers/net/usb",
    "drivers/net/wireless",
    "drivers/staging",
    "drivers/usb",
    "drivers/video/fbdev",
    "net/bluetooth",
    "net/mac80211",
    "net/wireless",
    "sound/firewire",
    "sound/isa",
    "sound/soc",
    "sound/usb",
];

/// Unpacks the kernel, unless that was done before.
pub fn ready(builder: &Builder, tools: &Tree) -> Result<Kernel> {
    let key = builder.packages.key(&SET, Key::new("stock").text("2").text(&LEFT_OUT.join(" ")))?;
    let entry = builder.cache.entry(&key, |work| {
        let tree = work.join("tree");
        builder.packages.unpack(&SET, &tree)?;
        let version = version_of(&tree.join("usr/lib/modules"))?;
        let modules = work.join("modules/lib/modules").join(&version);
        fs::create_dir_all(work.join("modules/lib/modules"))?;
        fs::rename(tree.join("usr/lib/modules").join(&version), &modules)?;
        let image = [modules.join("vmlinuz"), tree.join("boot").join(format!("vmlinuz-{version}"))]
            .into_iter()
            .find(|path| path.exists())
            .context("the kernel's package has no vmlinuz")?;
        let packed = fs::read(&image)?;
        fs::rename(&image, work.join("vmlinuz"))?;
        unpack_kernel(tools, payload(&packed)?, &work.join("vmlinux"))?;
        fs::remove_dir_all(tree)?;
        progress::step("unpacking the kernel's modules", || unpack_modules(tools, &modules))?;
        run(tools.command("depmod")?.arg("-b").arg(work.join("modules")).arg(&version))?;
        Kernel::describe(work, &version)
    })?;
    Kernel::open(entry, false)
}

fn version_of(modules: &Path) -> Result<String> {
    let entry = fs::read_dir(modules)?.next().context("the kernel's package has no modules")??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// The compressed kernel inside a bzImage, found by the boot protocol's header (2.08 and later:
/// `payload_offset`, `payload_length`, counted from the end of the real-mode sectors).
fn payload(image: &[u8]) -> Result<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes: [u8; 4] = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    ensure!(image.get(0x202..0x206) == Some(b"HdrS"), "the kernel's package has no bzImage");
    let sectors = usize::from(*image.get(0x1f1).unwrap_or(&0));
    let start = (sectors + 1) * 512 + word(0x248).unwrap_or(0);
    // The kernel's build appends the unpacked size, which is not part of the compressed stream.
    let end = start + word(0x24c).unwrap_or(0).saturating_sub(4);
    image.get(start..end).context("the bzImage is truncated")
}

fn unpack_kernel(tools: &Tree, packed: &[u8], vmlinux: &Path) -> Result<()> {
    let program = match packed {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', ..] => "xz",
        _ => anyhow::bail!("the kernel is compressed neither with zstd nor with xz"),
    };
    let mut child = tools
        .command(program)?
        .args(["-d", "-c", "-q"])
        .stdin(Stdio::piped())
        .stdout(fs::File::create(vmlinux)?)
        .spawn()?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(packed));
    ensure!(child.wait()?.success(), "{program} cannot unpack the kernel");
    Ok(written.transpose().map(drop)?)
}

/// Removes modules that no emulated machine can use and decompresses the rest: an emulated processor would need seconds
/// for it at each boot.
fn unpack_modules(tools: &Tree, modules: &Path) -> Result<()> {
    for dir in LEFT_OUT {
        let dir = modules.join("kernel").join(dir);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
    }
    let mut packed = Vec::new();
    find_packed(modules, &mut packed)?;
    let mut running = Vec::new();
    for half in packed.chunks(packed.len().div_ceil(2).max(1)) {
        let mut command: Command = tools.command("xz")?;
        running.push(command.args(["-d", "-q", "-T1"]).args(half).spawn()?);
    }
    for mut child in running {
        ensure!(child.wait()?.success(), "xz cannot unpack the kernel's modules");
    }
    Ok(())
}

fn find_packed(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find_packed(&entry.path(), into)?;
        } else if entry.path().extension().is_some_and(|e| e == "xz") {
            into.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_found_by_the_header() {
        let mut image = vec![0_u8; 2048];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&9_u32.to_le_bytes());
        image[1024 + 16..1024 + 21].copy_from_slice(b"hello");
        assert_eq!(payload(&image).unwrap(), b"hello");
        assert!(payload(b"short").is_err());
    }
}
