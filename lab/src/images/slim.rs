//! The slim kernel: Debian's source with only the options of `kernel/slim.config`. It boots in two seconds instead of
//! six, and has iommufd.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};

use super::{Builder, Kernel, module, sources};
use crate::{
    cache::Key,
    packages::{Debian, Set},
    process::run,
    progress,
    tree::Tree,
};

const SOURCE: Set = Set {
    name: "kernel source",
    wanted: &["linux-source"],
    only: &["linux-source-"],
    from: Debian::OfL1,
};

/// The emulated processor leaves the type of an exception that it has delivered in the field in which it reports one that it
/// could not deliver, without the bit that makes the field valid (`do_interrupt_all` in target/i386/tcg/seg_helper.c of
/// QEMU). KVM looks at the type alone, and ends a guest whose next exit is an access to a device: a virtual network card
/// is enough. A processor sets both or none (AMD64 APM volume 2, 15.7.2).
const PATCH: &str = "sed -i '/emulation is possible during event vectoring/,+2 \
     s/SVM_EXITINTINFO_TYPE_MASK/SVM_EXITINTINFO_VALID/' arch/x86/kvm/svm/svm.c \
     && grep -A2 'emulation is possible during event vectoring' arch/x86/kvm/svm/svm.c | grep -q SVM_EXITINTINFO_VALID";

/// The slim kernel, if it is built for the present packages and options.
pub fn find(builder: &Builder) -> Result<Option<Kernel>> {
    // Must not query the mirror: without chosen versions there is no slim kernel.
    if builder.packages.chosen(&SOURCE).is_none()
        || builder.packages.chosen(&module::TOOLCHAIN).is_none()
    {
        return Ok(None);
    }
    match builder.cache.find(&key(builder)?) {
        Some(entry) => Kernel::open(entry, true).map(Some),
        None => Ok(None),
    }
}

/// Builds the slim kernel, unless that was done before.
pub fn ready(builder: &Builder) -> Result<Kernel> {
    let toolchain = module::toolchain(builder)?;
    let entry = builder.cache.entry(&key(builder)?, |work| {
        builder.packages.unpack(&SOURCE, &work.join("package"))?;
        fs::copy(sources().join("kernel/slim.config"), work.join("slim.config"))?;
        progress::step("unpacking the kernel's source", || {
            run(&mut toolchain.script(
                work,
                &format!(
                    "mkdir source && tar -C source --strip-components=1 -xf package/usr/src/linux-source-*.tar.xz \
                     && rm -r package && cd source && {PATCH}"
                ),
            )?)
        })?;
        progress::step("configuring the slim kernel", || configure(&toolchain, work))?;
        progress::step("building the slim kernel (some minutes)", || build(&toolchain, work))?;
        finish(&toolchain, work)
    })?;
    Kernel::open(entry, true)
}

fn key(builder: &Builder) -> Result<Key> {
    let key = Key::new("slim").text(PATCH).source(&sources().join("kernel/slim.config"))?;
    let key = builder.packages.key(&SOURCE, key)?;
    builder.packages.key(&module::TOOLCHAIN, key)
}

/// Configures only the options of the fragment. An option that the kernel did not accept is an error: it may have been
/// renamed.
fn configure(toolchain: &Tree, work: &Path) -> Result<()> {
    run(&mut toolchain.script(
        work,
        "mkdir -p tree && cd source && KCONFIG_ALLCONFIG=/build/slim.config make -s O=/build/tree allnoconfig",
    )?)?;
    let wanted = fs::read_to_string(work.join("slim.config"))?;
    let got = fs::read_to_string(work.join("tree/.config"))?;
    let lost: Vec<&str> = wanted
        .lines()
        .filter(|line| line.starts_with("CONFIG_") && !line.ends_with("=n"))
        .filter(|line| !got.lines().any(|l| l == *line))
        .collect();
    ensure!(lost.is_empty(), "the kernel did not accept these options:\n{}", lost.join("\n"));
    Ok(())
}

/// Compiles at low priority, on all processors.
fn build(toolchain: &Tree, work: &Path) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let log = fs::File::create(work.join("build.log"))?;
    let status = toolchain
        .script(
            work,
            &format!("nice -n 15 make -s -C source O=/build/tree -j{jobs} vmlinux modules 2>&1"),
        )?
        .stdin(Stdio::null())
        .stdout(log)
        .status()?;
    if !status.success() {
        let log = fs::read_to_string(work.join("build.log"))?;
        anyhow::bail!("cannot build the slim kernel:\n{}", crate::process::last_lines(&log, 30));
    }
    Ok(())
}

/// Keeps the kernel, its modules, and the headers for building a module; removes the rest, more than a gigabyte.
fn finish(toolchain: &Tree, work: &Path) -> Result<()> {
    run(&mut toolchain.script(
        work,
        "make -s -C source O=/build/tree kernelrelease > version
         make -s -C source O=/build/tree INSTALL_MOD_PATH=/build/modules INSTALL_MOD_STRIP=1 modules_install
         strip -o vmlinux tree/vmlinux
         export SRCARCH=x86 srctree=../source CC=gcc HOSTCC=gcc MAKE=make
         make -s -C source O=/build/tree run-command \
           KBUILD_RUN_COMMAND='$(srctree)/scripts/package/install-extmod-build /build/headers'
         rm -rf source tree build.log modules/lib/modules/*/build modules/lib/modules/*/source",
    )?)
    .context("installing the slim kernel")?;
    let version = fs::read_to_string(work.join("version"))?;
    Kernel::describe(work, version.trim())
}
