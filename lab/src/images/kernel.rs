//! The kernel of L1 and of its guests: Debian's own (stock), or the small one that the lab builds (slim).

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, bail};

use super::{Builder, erofs};
use crate::{cache::Key, process::run, progress, tree::Tree};

/// The kernel of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The slim one if it is built, else the stock one.
    #[default]
    Auto,
    /// The one built by `lab build --slim`.
    Slim,
    /// Debian's.
    Stock,
}

impl FromStr for Choice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "slim" => Ok(Self::Slim),
            "stock" => Ok(Self::Stock),
            _ => bail!("unknown kernel {text:?}; use auto, slim or stock"),
        }
    }
}

/// A kernel in the cache.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its cache entry.
    pub entry: PathBuf,
    /// `uname -r`.
    pub version: String,
    /// Whether it is the slim one.
    pub slim: bool,
}

impl Kernel {
    /// Opens a cache entry that [`Self::describe`] wrote.
    pub fn open(entry: PathBuf, slim: bool) -> Result<Self> {
        let version = fs::read_to_string(entry.join("version"))
            .with_context(|| format!("{} is not a kernel", entry.display()))?;
        Ok(Self { entry, version, slim })
    }

    /// Writes the kernel's version into a cache entry that is being built.
    pub fn describe(work: &Path, version: &str) -> Result<()> {
        Ok(fs::write(work.join("version"), version)?)
    }

    /// The ELF file: QEMU starts it by its PVH entry, so that the emulated machine need not unpack a compressed kernel.
    pub fn vmlinux(&self) -> PathBuf {
        self.entry.join("vmlinux")
    }

    /// The compressed kernel as Debian signed it, for boot loaders. The slim one has none.
    pub fn signed(&self) -> PathBuf {
        self.entry.join("vmlinuz")
    }

    /// The directory with `lib/modules/<version>` below it.
    pub fn modules_base(&self) -> PathBuf {
        self.entry.join("modules")
    }

    /// The directory of the modules.
    pub fn modules(&self) -> PathBuf {
        self.modules_base().join("lib/modules").join(&self.version)
    }
}

/// The image with everything that depends on the kernel: its modules, and the kernel and a disk for guests.
pub fn image(builder: &Builder, tools: &Tree, kernel: &Kernel) -> Result<PathBuf> {
    let key = Key::new("modules").text("2").part(&kernel.entry);
    let entry = builder.cache.entry(&key, |work| {
        progress::step("writing the image of the kernel's modules", || {
            let tree = work.join("tree");
            let guest = tree.join("opt/lab/guest");
            fs::create_dir_all(&guest)?;
            fs::create_dir_all(tree.join("usr/lib/modules"))?;
            fs::copy(kernel.vmlinux(), guest.join("vmlinux"))?;
            run(tools
                .command("qemu-img")?
                .args(["create", "-q", "-f", "qcow2"])
                .arg(guest.join("disk.qcow2"))
                .arg("64M"))?;
            hard_link_tree(&kernel.modules(), &tree.join("usr/lib/modules").join(&kernel.version))?;
            erofs::write(tools, &tree, &work.join("modules.erofs"))?;
            Ok(fs::remove_dir_all(tree)?)
        })
    })?;
    Ok(entry.join("modules.erofs"))
}

/// Creates a second tree with hard links to the same files.
pub fn hard_link_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            hard_link_tree(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), target)?;
        }
    }
    Ok(())
}
