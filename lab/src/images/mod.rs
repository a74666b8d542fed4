//! The images that L1 boots: a userland, a kernel, and an initrd that combines them.
//!
//! Each is built from its own inputs and cached separately, so that after a change of a script or of a module only
//! small parts are rebuilt.

pub mod cloud_init;
pub mod debian_disk;
pub mod erofs;
pub mod guest;
pub mod initrd;
pub mod kernel;
pub mod module;
pub mod older;
pub mod ramdisk_tools;
pub mod slim;
pub mod stock;
pub mod userland;
pub mod vnc;

use std::path::PathBuf;

use anyhow::{Result, bail};

pub use initrd::Initrd;
pub use kernel::{Choice, Kernel};

use crate::{cache::Cache, packages::Packages, tree::Tree};

/// Everything for one boot of L1.
#[derive(Debug, Clone)]
pub struct Images {
    /// The userland's programs; L1's QEMU also runs on this host.
    pub tools: Tree,
    /// The userland as a file system image.
    pub root: PathBuf,
    /// The kernel that L1 boots.
    pub kernel: Kernel,
    /// The kernel's modules and the guest's kernel, as a file system image.
    pub modules: PathBuf,
    /// The first stage, and files that change often.
    pub initrd: Initrd,
}

impl Images {
    /// Finds the images in the cache, and builds missing ones.
    pub fn ready(choice: Choice) -> Result<Self> {
        let cache = Cache::open()?;
        let packages = Packages::open(&cache)?;
        let builder = Builder { cache: &cache, packages: &packages };
        let (tools, root) = userland::ready(&builder)?;
        let kernel = chosen_kernel(&builder, &tools, choice)?;
        let modules = kernel::image(&builder, &tools, &kernel)?;
        let layer = module::ready(&builder, &tools, &kernel)?;
        let guest = guest::ready(&builder, &tools, &kernel)?;
        let initrd = initrd::ready(&builder, &tools, &kernel, &layer, &guest)?;
        Ok(Self { tools, root, kernel, modules, initrd })
    }

    /// Discards the chosen package versions; the next [`Self::ready`] builds changed images.
    pub fn refresh() -> Result<()> {
        Packages::open(&Cache::open()?)?.forget()
    }

    /// Builds the slim kernel too.
    pub fn build_slim() -> Result<()> {
        let cache = Cache::open()?;
        let packages = Packages::open(&cache)?;
        slim::ready(&Builder { cache: &cache, packages: &packages }).map(drop)
    }
}

/// The context for building images.
#[derive(Debug, Clone, Copy)]
pub struct Builder<'a> {
    /// The cache of results.
    pub cache: &'a Cache,
    /// The source of packages.
    pub packages: &'a Packages<'a>,
}

/// The lab's source directory: scripts, topologies and modules are read from it when they are used, so that a change
/// does not require a rebuild of this program.
pub fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The kernel that was chosen.
fn chosen_kernel(builder: &Builder, tools: &Tree, choice: Choice) -> Result<Kernel> {
    match choice {
        Choice::Stock => stock::ready(builder, tools),
        Choice::Slim => match slim::find(builder)? {
            Some(kernel) => Ok(kernel),
            None => bail!(
                "the slim kernel is not built; run `cargo lab build --slim` (takes some minutes)"
            ),
        },
        Choice::Auto => match slim::find(builder)? {
            Some(kernel) => Ok(kernel),
            None => stock::ready(builder, tools),
        },
    }
}
