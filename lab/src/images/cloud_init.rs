//! A root file system with Debian's cloud-init, for tests of seeds by the real program.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Builder, erofs, userland};
use crate::{
    cache::{Cache, Key},
    packages::{Debian, Packages, Set},
    progress,
    tree::Tree,
};

/// cloud-init and what its modules call.
const SET: Set = Set {
    name: "cloud-init",
    wanted: &[
        "cloud-init",
        "coreutils",
        "dash",
        "e2fsprogs",
        "fdisk",
        "iproute2",
        "mount",
        "openssh-client",
        "openssh-server",
        "netbase",
        "passwd",
        "procps",
        "util-linux",
    ],
    only: &[],
    from: Debian::OfL1,
};

/// The root file system as an erofs image.
///
/// # Errors
/// If it is not in the cache and cannot be built.
pub fn ready() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let packages = Packages::open(&cache)?;
    let builder = Builder { cache: &cache, packages: &packages };
    let (tools, _) = userland::ready(&builder)?;
    let key = packages.key(&SET, Key::new("cloud-init").text("2"))?;
    let entry = cache.entry(&key, |work| {
        let tree = Tree::new(work.join("tree"));
        packages.unpack(&SET, tree.root())?;
        userland::complete(tree.root())?;
        // What the package's script asks the administrator for.
        let list = tree.root().join("etc/cloud/cloud.cfg.d/90_dpkg.cfg");
        fs::write(list, "datasource_list: [NoCloud, None]\n")?;
        fs::write(tree.root().join("etc/shadow"), "root:*:20000:0:99999:7:::\n")?;
        certificates(tree.root())?;
        for leave_out in ["usr/share/doc", "usr/share/locale", "usr/share/man"] {
            let _ = fs::remove_dir_all(tree.root().join(leave_out));
        }
        progress::step("writing the image with cloud-init", || {
            erofs::write(&tools, tree.root(), &work.join("root.erofs"))
        })?;
        Ok(fs::remove_dir_all(tree.root())?)
    })?;
    Ok(entry.join("root.erofs"))
}

/// The file of all certificates, which the package's script writes: a library of cloud-init does not start without it.
fn certificates(root: &Path) -> Result<()> {
    let mut all = Vec::new();
    for file in fs::read_dir(root.join("usr/share/ca-certificates/mozilla"))? {
        all.extend(fs::read(file?.path())?);
    }
    fs::create_dir_all(root.join("etc/ssl/certs"))?;
    Ok(fs::write(root.join("etc/ssl/certs/ca-certificates.crt"), all)?)
}
