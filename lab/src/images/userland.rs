//! L1's userland: unpacked Debian packages, and the few files that their maintainer scripts would create.

use std::{fs, os::unix::fs::symlink, path::Path, path::PathBuf};

use anyhow::Result;

use super::{Builder, erofs};
use crate::{
    cache::Key,
    packages::{Debian, Set},
    process::run,
    progress,
    tree::Tree,
};

/// The packages of a usable host, and the tools for building its images.
pub const SET: Set = Set {
    name: "userland",
    wanted: &[
        "bash",
        "bsdutils",
        "busybox-static",
        "catatonit",
        "conmon",
        "coreutils",
        "crun",
        "curl",
        "dash",
        "diffutils",
        "dmsetup",
        "driverctl",
        "dropbear-bin",
        "e2fsprogs",
        "erofs-utils",
        "findutils",
        "gawk",
        "grep",
        "gzip",
        "hostname",
        "iproute2",
        "iputils-ping",
        "jq",
        "kmod",
        "less",
        "libc-bin",
        "libvirt-clients",
        "libvirt-daemon",
        "libvirt-daemon-driver-nodedev",
        "libvirt-daemon-driver-qemu",
        "mdevctl",
        "mount",
        "ncurses-base",
        "openssh-client",
        "ovmf",
        "passt",
        "passwd",
        "pci.ids",
        "pciutils",
        "podman",
        "procps",
        "psmisc",
        "qemu-system-modules-spice",
        "qemu-system-x86",
        "qemu-utils",
        "sed",
        "socat",
        "sqlite3",
        "strace",
        "swtpm",
        "tar",
        "udev",
        "util-linux",
        "xz-utils",
        "zstd",
    ],
    only: &[],
    from: Debian::OfL1,
};

/// The unpacked tree and its image.
pub fn ready(builder: &Builder) -> Result<(Tree, PathBuf)> {
    let key = builder.packages.key(&SET, Key::new("userland").text("5"))?;
    let entry = builder.cache.entry(&key, |work| {
        let tree = Tree::new(work.join("tree"));
        builder.packages.unpack(&SET, tree.root())?;
        complete(tree.root())?;
        link_applets(&tree)?;
        progress::step("writing the userland's image", || {
            erofs::write(&tree, tree.root(), &work.join("root.erofs"))
        })
    })?;
    Ok((Tree::new(entry.join("tree")), entry.join("root.erofs")))
}

/// Creates the files that the packages' scripts create on a real machine.
pub(super) fn complete(root: &Path) -> Result<()> {
    for dir in [
        "dev",
        "etc",
        "host",
        "lab",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/local/bin",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    for dir in ["var/lib", "var/tmp", "var/log", "etc/modprobe.d"] {
        fs::create_dir_all(root.join(dir))?;
    }
    // Ids as in Debian's base-passwd, QEMU's and libvirt's packages; libvirt does not start without its user.
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
         libvirt-qemu:x:64055:104::/var/lib/libvirt:/usr/sbin/nologin\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nkvm:x:104:\nhandover:x:990:\nlibvirt:x:991:\n\
         libvirt-qemu:x:64055:\nnogroup:x:65534:\n",
    )?;
    // A package with files there means /run: dpkg would follow base-files' link.
    for dir in ["var/run", "var/lock"].map(|dir| root.join(dir)) {
        if dir.symlink_metadata().is_ok_and(|old| old.is_dir()) {
            fs::remove_dir_all(dir)?;
        }
    }
    // Drivers that only guests need. L1 leaves the functions of its own machine alone.
    fs::write(root.join("etc/modprobe.d/guests.conf"), "blacklist ahci\nblacklist bochs\n")?;
    fs::write(root.join("etc/hostname"), "l1\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost l1\n::1 localhost\n")?;
    for (link, target) in [
        ("var/run", "/run"),
        ("var/lock", "/run/lock"),
        ("usr/bin/sh", "dash"),
        ("usr/bin/awk", "gawk"),
        ("usr/bin/pager", "less"),
        ("usr/local/bin/handover", "/lab/bin/handover"),
    ] {
        let link = root.join(link);
        if !link.exists() && link.symlink_metadata().is_err() {
            symlink(target, link)?;
        }
    }
    Ok(())
}

/// Links busybox's commands for names that no package provides.
fn link_applets(tree: &Tree) -> Result<()> {
    // It is static, so it needs no dynamic linker.
    let busybox = tree.root().join("usr/bin/busybox");
    let applets = run(std::process::Command::new(busybox).arg("--list"))?;
    for applet in applets.lines() {
        let taken = ["usr/bin", "usr/sbin"]
            .iter()
            .any(|dir| tree.root().join(dir).join(applet).symlink_metadata().is_ok());
        if !taken {
            symlink("busybox", tree.root().join("usr/bin").join(applet))?;
        }
    }
    Ok(())
}
