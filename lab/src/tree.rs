//! Runs programs of an unpacked Debian tree on this host, without installing them.
//!
//! The host's C library may be older than the tree's, so a program is started by the tree's dynamic linker with the
//! tree's libraries. A program that needs a whole system, such as a compiler, runs in a chroot in a private mount
//! namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// An unpacked Debian tree.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree in this directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The tree's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command that runs one of the tree's programs in this host's file system.
    pub fn command(&self, program: &str) -> Result<Command> {
        let Some(path) = ["usr/bin", "usr/sbin"]
            .iter()
            .map(|dir| self.root.join(dir).join(program))
            .find(|path| path.exists())
        else {
            bail!("{program} is not in the lab's packages ({})", self.root.display());
        };
        let libraries = self.root.join(LIBRARIES);
        let mut command = Command::new(self.root.join("usr/lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(format!("{}:{}", libraries.display(), libraries.join("systemd").display()))
            .arg("--argv0")
            .arg(program)
            .arg(path)
            .env("QEMU_MODULE_DIR", libraries.join("qemu"));
        Ok(command)
    }

    /// QEMU for L1, with the paths of its firmware.
    pub fn qemu(&self) -> Result<Command> {
        let mut command = self.command("qemu-system-x86_64")?;
        for dir in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(self.root.join(dir));
        }
        Ok(command)
    }

    /// A command that runs a shell script with the tree as its root and `work` at `/build`.
    ///
    /// Without root it runs in a user namespace as its root.
    pub fn script(&self, work: &Path, script: &str) -> Result<Command> {
        fs::create_dir_all(self.root.join("build"))?;
        for dir in ["proc", "dev", "tmp"] {
            fs::create_dir_all(self.root.join(dir))?;
        }
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["sh", "-c", ENTER, "enter"])
            .arg(&self.root)
            .arg(work)
            .arg(script)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/tmp")
            .env("LC_ALL", "C");
        Ok(command)
    }
}

/// Mounts what a compiler needs and changes root. `--rbind` also works in a user namespace, where a new proc cannot be
/// mounted.
const ENTER: &str = r#"set -e
mount --rbind /proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmp "$1/tmp"
mount --bind "$2" "$1/build"
cd "$1/build"
exec chroot "$1" /usr/bin/bash -ec "cd /build; $3""#;
