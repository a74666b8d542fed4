//! What L1 boots from: a userland, a kernel, and an initrd that puts them together.
//!
//! Each is built from its own inputs and cached by itself, so that a change of a script or of the module
//! costs seconds, not a new image of everything.

pub mod erofs;
pub mod guest;
pub mod initrd;
pub mod kernel;
pub mod module;
pub mod ramdisk_tools;
pub mod slim;
pub mod stock;
pub mod userland;

use std::path::PathBuf;

use anyhow::{Result, bail};

pub use initrd::Initrd;
pub use kernel::{Choice, Kernel};

use crate::{cache::Cache, packages::Packages, tree::Tree};

/// All that one boot of L1 needs.
#[derive(Debug, Clone)]
pub struct Images {
    /// The userland's programs; L1's own QEMU also runs here, on the host.
    pub tools: Tree,
    /// The userland as a file system image.
    pub root: PathBuf,
    /// The kernel that L1 boots.
    pub kernel: Kernel,
    /// The kernel's modules and the guest's kernel, as a file system image.
    pub modules: PathBuf,
    /// The first stage, and all that changes often.
    pub initrd: Initrd,
}

impl Images {
    /// Finds the images in the cache, and builds what is missing.
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

    /// Chooses package versions anew; what they change is built at the next [`Self::ready`].
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

/// What every image is built with.
#[derive(Debug, Clone, Copy)]
pub struct Builder<'a> {
    /// Where results are kept.
    pub cache: &'a Cache,
    /// Where inputs come from.
    pub packages: &'a Packages<'a>,
}

/// The lab's own source folder: scripts, topologies and the module are read from it when they are used, so
/// that editing one needs no new build of this program.
pub fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The kernel that was chosen.
fn chosen_kernel(builder: &Builder, tools: &Tree, choice: Choice) -> Result<Kernel> {
    match choice {
        Choice::Stock => stock::ready(builder, tools),
        Choice::Slim => match slim::find(builder)? {
            Some(kernel) => Ok(kernel),
            None => bail!("the slim kernel is not built: `cargo lab build --slim` (some minutes)"),
        },
        Choice::Auto => match slim::find(builder)? {
            Some(kernel) => Ok(kernel),
            None => stock::ready(builder, tools),
        },
    }
}
