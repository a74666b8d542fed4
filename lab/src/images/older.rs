//! Programs of Debian 12, for tests with versions of which L1 has newer ones. They run with L1's libraries.

use anyhow::Result;

use crate::{
    cache::{Cache, Key},
    packages::{Debian, Packages, Set},
    tree::Tree,
};

const PASST: Set =
    Set { name: "older passt", wanted: &["passt"], only: &["passt_"], from: Debian::Twelve };

/// The tree of Debian 12's passt.
///
/// # Errors
/// If it is not in the cache and cannot be downloaded.
pub fn passt() -> Result<Tree> {
    let cache = Cache::open()?;
    let packages = Packages::open(&cache)?;
    let key = packages.key(&PASST, Key::new("older"))?;
    let entry = cache.entry(&key, |work| packages.unpack(&PASST, &work.join("tree")))?;
    Ok(Tree::new(entry.join("tree")))
}
