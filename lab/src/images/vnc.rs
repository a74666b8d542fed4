//! A VNC client of Debian's that takes a picture without a display, for tests of screens by a real program.

use anyhow::Result;

use crate::{
    cache::{Cache, Key},
    packages::{Debian, Packages, Set},
    tree::Tree,
};

const SET: Set = Set {
    name: "VNC client",
    wanted: &["vncsnapshot"],
    only: &["vncsnapshot_"],
    from: Debian::OfL1,
};

/// The tree of the client. It runs with L1's libraries.
///
/// # Errors
/// If it is not in the cache and cannot be downloaded.
pub fn client() -> Result<Tree> {
    let cache = Cache::open()?;
    let packages = Packages::open(&cache)?;
    let key = packages.key(&SET, Key::new("vnc"))?;
    let entry = cache.entry(&key, |work| packages.unpack(&SET, &work.join("tree")))?;
    Ok(Tree::new(entry.join("tree")))
}
