//! Debian's tool that makes initial ramdisks, to be copied over L1's root: the ramdisks that it makes there boot L1.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result};

use super::{Builder, sources};
use crate::{
    cache::{Cache, Key},
    packages::{Packages, Set},
    tree::Tree,
};

/// What the userland has not yet.
const SET: Set = Set {
    name: "initramfs-tools",
    wanted: &["initramfs-tools"],
    only: &["cpio", "dracut-install", "initramfs-tools", "klibc", "libklibc", "logsave"],
};

/// Debian's is a Perl script, and L1 has no Perl.
const LINUX_VERSION: &str = "#!/bin/sh
case $1 in
list) ls /usr/lib/modules ;;
sort) sort -V ;;
esac
";

/// The unpacked tree.
///
/// # Errors
/// Where it is not in the cache and cannot be downloaded.
pub fn ready() -> Result<Tree> {
    let cache = Cache::open()?;
    let packages = Packages::open(&cache)?;
    let builder = Builder { cache: &cache, packages: &packages };
    let script = sources().join("l1").join("initramfs-tools");
    let key = packages.key(&SET, Key::new("initramfs-tools").text("1"))?.source(&script)?;
    let entry = cache.entry(&key, |work| {
        let root = work.join("tree");
        builder.packages.unpack(&SET, &root)?;
        complete(&root, &script)
    })?;
    Ok(Tree::new(entry.join("tree")))
}

fn complete(root: &Path, script: &Path) -> Result<()> {
    let etc = root.join("etc/initramfs-tools");
    fs::copy(script, etc.join("scripts/lab"))?;
    // The kernels of the lab are not asked for by a file in /boot, and all of them know gzip.
    let conf = etc.join("initramfs.conf");
    let text = fs::read_to_string(&conf).context("initramfs-tools has no configuration")?;
    fs::write(&conf, text + "\nCOMPRESS=gzip\n")?;
    let tool = root.join("usr/bin/linux-version");
    fs::create_dir_all(root.join("usr/bin"))?;
    fs::write(&tool, LINUX_VERSION)?;
    Ok(fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?)
}
