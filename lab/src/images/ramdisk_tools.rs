//! Tools that build initial ramdisks, for copying into L1's root: the ramdisks that they build there boot L1.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result};

use super::sources;
use crate::{
    cache::{Cache, Key},
    packages::{Debian, Packages, Set},
    tree::Tree,
};

/// The packages of Debian's tool that the userland lacks.
const INITRAMFS_TOOLS: Set = Set {
    name: "initramfs-tools",
    wanted: &["initramfs-tools"],
    only: &["cpio", "dracut-install", "initramfs-tools", "klibc", "libklibc", "logsave"],
    from: Debian::OfL1,
};

/// The same for Fedora's tool.
const DRACUT: Set = Set {
    name: "dracut",
    wanted: &["dracut"],
    only: &["cpio", "dracut", "logsave"],
    from: Debian::OfL1,
};

/// A replacement for Debian's `linux-version`, a Perl script: L1 has no Perl.
const LINUX_VERSION: &str = "#!/bin/sh
case $1 in
list) ls /usr/lib/modules ;;
sort) sort -V ;;
esac
";

/// The tree of initramfs-tools.
///
/// # Errors
/// If it is not in the cache and cannot be downloaded.
pub fn initramfs_tools() -> Result<Tree> {
    let script = sources().join("l1").join("initramfs-tools");
    ready(&INITRAMFS_TOOLS, &script, |root| {
        let etc = root.join("etc/initramfs-tools");
        fs::copy(&script, etc.join("scripts/lab"))?;
        // The lab's kernels have no configuration in /boot, and all of them support gzip.
        let conf = etc.join("initramfs.conf");
        let text = fs::read_to_string(&conf).context("initramfs-tools has no configuration")?;
        fs::write(&conf, text + "\nCOMPRESS=gzip\n")?;
        let tool = root.join("usr/bin/linux-version");
        fs::create_dir_all(root.join("usr/bin"))?;
        fs::write(&tool, LINUX_VERSION)?;
        Ok(fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?)
    })
}

/// The tree of dracut.
///
/// # Errors
/// If it is not in the cache and cannot be downloaded.
pub fn dracut() -> Result<Tree> {
    let scripts = sources().join("l1").join("dracut");
    ready(&DRACUT, &scripts, |root| {
        let module = root.join("usr/lib/dracut/modules.d/99lab");
        fs::create_dir_all(&module)?;
        for script in ["module-setup.sh", "cmdline.sh", "mount.sh"] {
            let to = module.join(script);
            fs::copy(scripts.join(script), &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        }
        // L1's root is not a distribution, and has no systemd for the ramdisk.
        let conf = root.join("etc/dracut.conf.d");
        fs::create_dir_all(&conf)?;
        let text = "hostonly=no\ncompress=gzip\nearly_microcode=no\n\
                    omit_dracutmodules+=\" systemd systemd-initrd dracut-systemd bash \"\n";
        Ok(fs::write(conf.join("lab.conf"), text)?)
    })
}

fn ready(set: &Set, scripts: &Path, complete: impl Fn(&Path) -> Result<()>) -> Result<Tree> {
    let cache = Cache::open()?;
    let packages = Packages::open(&cache)?;
    let key = packages.key(set, Key::new(set.name).text("2"))?.source(scripts)?;
    let entry = cache.entry(&key, |work| {
        let root = work.join("tree");
        packages.unpack(set, &root)?;
        complete(&root)
    })?;
    Ok(Tree::new(entry.join("tree")))
}
