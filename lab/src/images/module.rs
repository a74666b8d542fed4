//! The lab's kernel modules (`lab/module`), such as the native driver of the emulated GPUs, built for the kernel that
//! L1 boots.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Builder, Kernel, kernel::hard_link_tree, sources};
use crate::{
    cache::Key,
    packages::{Debian, Set},
    process::run,
    progress,
    tree::Tree,
};

/// The compiler with which Debian built the kernel, and the headers of that kernel.
pub const TOOLCHAIN: Set = Set {
    name: "toolchain",
    wanted: &[
        "bash",
        "bc",
        "binutils",
        "bison",
        "coreutils",
        "cpio",
        "dash",
        "diffutils",
        "findutils",
        "flex",
        "gawk",
        "gcc",
        "grep",
        "gzip",
        "hostname",
        "kmod",
        "libc6-dev",
        "libdw-dev",
        "libelf-dev",
        "libssl-dev",
        "linux-headers-amd64",
        "lz4",
        "make",
        "perl",
        "python3-minimal",
        "rsync",
        "sed",
        "tar",
        "util-linux",
        "xz-utils",
        "zstd",
    ],
    only: &[],
    from: Debian::OfL1,
};

/// The unpacked toolchain.
pub fn toolchain(builder: &Builder) -> Result<Tree> {
    let key = builder.packages.key(&TOOLCHAIN, Key::new("toolchain").text("1"))?;
    let entry = builder.cache.entry(&key, |work| {
        builder.packages.unpack(&TOOLCHAIN, work)?;
        for (link, target) in [("sh", "dash"), ("awk", "gawk"), ("cc", "gcc")] {
            let link = work.join("usr/bin").join(link);
            if link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(target, link)?;
            }
        }
        Ok(())
    })?;
    Ok(Tree::new(entry))
}

/// A layer over the kernel's modules: our modules, and new indices of all modules. Empty if the lab has no module.
pub fn ready(builder: &Builder, tools: &Tree, kernel: &Kernel) -> Result<PathBuf> {
    let source = sources().join("module");
    let present = source.join("Makefile").exists();
    let mut key = Key::new("layer").text("1").part(&kernel.entry);
    if present {
        key = builder.packages.key(&TOOLCHAIN, key.source(&source)?)?;
    }
    builder.cache.entry(&key, |work| {
        let layer = work.join("usr/lib/modules").join(&kernel.version);
        fs::create_dir_all(&layer)?;
        if !present {
            return Ok(());
        }
        let toolchain = toolchain(builder)?;
        progress::step("building the lab's kernel modules", || {
            compile(&toolchain, kernel, &source, work, &layer.join("extra"))
        })?;
        progress::step("indexing the modules", || index(tools, kernel, work, &layer))
    })
}

/// Compiles the modules in a copy of their source: the build must not write into the checkout.
fn compile(
    toolchain: &Tree,
    kernel: &Kernel,
    source: &Path,
    work: &Path,
    into: &Path,
) -> Result<()> {
    let copy = work.join("build");
    run(std::process::Command::new("cp").arg("-r").arg(source).arg(&copy))?;
    let script = if kernel.slim {
        // The headers of the slim kernel are in its cache entry, which is not visible in the chroot.
        run(std::process::Command::new("cp")
            .arg("-r")
            .arg(kernel.entry.join("headers"))
            .arg(work.join("headers")))?;
        "make -s -C /build/headers M=/build/build modules".to_owned()
    } else {
        format!("make -s -C /usr/src/linux-headers-{} M=/build/build modules", kernel.version)
    };
    run(&mut toolchain.script(work, &script)?).context("cannot build the lab's kernel modules")?;
    fs::create_dir_all(into)?;
    for entry in fs::read_dir(&copy)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "ko") {
            let name = path.file_name().context("a module without a name")?;
            let target = Path::new("/build").join(into.strip_prefix(work)?).join(name);
            let from = Path::new("/build/build").join(name);
            let strip = format!("strip --strip-debug -o {} {}", target.display(), from.display());
            run(&mut toolchain.script(work, &strip)?)?;
        }
    }
    fs::remove_dir_all(copy)?;
    if kernel.slim {
        fs::remove_dir_all(work.join("headers"))?;
    }
    Ok(())
}

/// Runs `depmod` over the kernel's modules and ours; only the new indices are kept.
fn index(tools: &Tree, kernel: &Kernel, work: &Path, layer: &Path) -> Result<()> {
    let base = work.join("all");
    let all = base.join("lib/modules").join(&kernel.version);
    hard_link_tree(&kernel.modules(), &all)?;
    hard_link_tree(&layer.join("extra"), &all.join("extra"))?;
    let indices = || -> Result<Vec<PathBuf>> {
        let files = fs::read_dir(&all)?.flatten().map(|entry| entry.path());
        Ok(files
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("modules.")
                    && !name.starts_with("modules.builtin")
                    && name != "modules.order"
            })
            .collect())
    };
    // depmod must not write through the hard links into the kernel's cache entry.
    indices()?.iter().try_for_each(fs::remove_file)?;
    run(tools.command("depmod")?.arg("-b").arg(&base).arg(&kernel.version))?;
    for path in indices()? {
        fs::rename(&path, layer.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(fs::remove_dir_all(base)?)
}
