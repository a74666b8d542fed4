//! The initial ramdisk of a machine that is made from a container image: Handover's init, and the kernel modules that
//! it needs to reach the root.
//!
//! It is a cpio archive in the kernel's "newc" format, the same bytes for the same input. Modules are decompressed, so
//! that every kernel can load them. Modules of an image are untrusted: all that is read has bounds.

mod cpio;
mod error;
mod executable;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

pub use error::InitrdError;
pub use files::{ModuleDirectory, ModuleFiles};
use guest_protocol::ramdisk;
use kernel_modules::{CompressionError, Index, Texts, decompressed, module_name};

/// The largest executable of the guest.
const MAX_INIT_BYTES: usize = 16 << 20;
/// The largest file of `depmod`. Debian's `modules.alias` has 1 MiB.
const MAX_INDEX_BYTES: usize = 16 << 20;
/// The largest module, decompressed.
const MAX_MODULE_BYTES: usize = 64 << 20;
/// All modules together, decompressed.
const MAX_MODULES_BYTES: usize = 128 << 20;

/// A module that is loaded before the root is mounted.
struct Wanted {
    name: &'static str,
    /// What a guest cannot do without it; none: it cannot boot.
    without: Option<&'static str>,
}

const fn required(name: &'static str) -> Wanted {
    Wanted { name, without: None }
}

const fn optional(name: &'static str, without: &'static str) -> Wanted {
    Wanted { name, without: Some(without) }
}

/// What the guest's init needs, in the order in which it is loaded.
const WANTED: [Wanted; 11] = [
    required("virtio_pci"),
    required("virtio_blk"),
    required("erofs"),
    required("ext4"),
    required("overlay"),
    optional("virtio_console", "no virtio console"),
    optional("vmw_vsock_virtio_transport", "no agent on vsock: no exec, no cp"),
    optional("virtio_net", "no virtio network card"),
    optional("button", "no power button: stop ends the machine without asking its command"),
    optional("evdev", "no power button: stop ends the machine without asking its command"),
    optional("virtio_rng", "no random numbers from the host"),
];

/// What an initial ramdisk has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The modules in it, in the order in which they are loaded.
    pub modules: Vec<String>,
    /// Modules that the kernel does not have, and what the guest cannot do without them.
    pub missing: Vec<(&'static str, &'static str)>,
}

/// Writes an initial ramdisk with this executable of the guest, and modules of this kernel. Without `modules` the
/// kernel must have everything built in.
///
/// # Errors
/// A module that is needed is neither built in nor there, or a file cannot be read or is too large.
pub fn build(
    init: &[u8],
    modules: Option<&dyn ModuleFiles>,
    to: &mut dyn Write,
) -> Result<Contents, InitrdError> {
    if init.len() > MAX_INIT_BYTES {
        let path = ramdisk::INIT.to_owned();
        return Err(InitrdError::TooLarge { path, most: MAX_INIT_BYTES });
    }
    executable::check(init).map_err(|problem| InitrdError::BadInit { problem })?;
    let (chosen, missing) = match modules {
        Some(files) => choose(&index(files)?)?,
        None => (Vec::new(), Vec::new()),
    };
    let mut archive = cpio::Archive::new(to);
    archive.directory("dev")?;
    // The kernel opens it for the init before devtmpfs is there.
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.file(ramdisk::INIT, 0o755, init)?;
    archive.directory(ramdisk::MODULES)?;
    let mut contents = Contents { missing, ..Contents::default() };
    let (mut list, mut total, mut taken) = (String::new(), 0_usize, BTreeMap::new());
    for path in chosen {
        let Some(files) = modules else { break };
        let module = read_module(files, &path)?;
        total = total.saturating_add(module.len());
        if total > MAX_MODULES_BYTES {
            return Err(InitrdError::TooLarge { path, most: MAX_MODULES_BYTES });
        }
        let name = module_name(&path);
        let inside = format!("{}/{name}.ko", ramdisk::MODULES);
        if taken.insert(name.clone(), ()).is_none() {
            archive.file(&inside, 0o644, &module)?;
            list.push_str(&inside);
            list.push('\n');
            contents.modules.push(name);
        }
    }
    archive.file(ramdisk::MODULE_LIST, 0o644, list.as_bytes())?;
    archive.finish()?;
    Ok(contents)
}

fn read_module(files: &dyn ModuleFiles, path: &str) -> Result<Vec<u8>, InitrdError> {
    let raw = files.read(path, MAX_MODULE_BYTES)?;
    let raw = raw.ok_or_else(|| InitrdError::FileMissing { path: path.to_owned() })?;
    decompressed(path, raw, MAX_MODULE_BYTES).map_err(|error| match error {
        CompressionError::TooLarge(most) => InitrdError::TooLarge { path: path.to_owned(), most },
        CompressionError::Broken(reason) => {
            InitrdError::Compression { path: path.to_owned(), reason }
        }
    })
}

/// What `depmod` wrote.
fn index(files: &dyn ModuleFiles) -> Result<Index, InitrdError> {
    let text = |path: &str| -> Result<Option<String>, InitrdError> {
        let bytes = files.read(path, MAX_INDEX_BYTES)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let needed =
        |path: &str| text(path)?.ok_or_else(|| InitrdError::FileMissing { path: path.to_owned() });
    let (dep, builtin) = (needed("modules.dep")?, needed("modules.builtin")?);
    let softdep = text("modules.softdep")?.unwrap_or_default();
    let alias = text("modules.alias")?.unwrap_or_default();
    Ok(Index::new(&Texts { dep: &dep, builtin: &builtin, softdep: &softdep, alias: &alias }))
}

/// The paths of the modules to load, in order, and what is not there.
#[allow(clippy::type_complexity, reason = "two lists, named by the fields that they go to")]
fn choose(index: &Index) -> Result<(Vec<String>, Vec<(&'static str, &'static str)>), InitrdError> {
    let (mut paths, mut seen, mut missing) = (Vec::new(), BTreeSet::new(), Vec::new());
    for wanted in &WANTED {
        if index.is_built_in(wanted.name) {
            continue;
        }
        match (index.with_dependencies(wanted.name), wanted.without) {
            (Some(all), _) => {
                paths.extend(all.into_iter().filter(|path| seen.insert(path.clone())));
            }
            (None, Some(without)) => missing.push((wanted.name, without)),
            (None, None) => return Err(InitrdError::ModuleMissing { name: wanted.name }),
        }
    }
    Ok((paths, missing))
}

#[cfg(test)]
mod tests;
