//! The seeds in the repository: small inputs of every form that a reader knows, and every input that once failed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Target;

/// The directory of a target's seeds.
#[must_use]
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name)
}

/// A target's seeds, by file name.
///
/// # Errors
/// The directory cannot be read.
pub fn of(target: &Target) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut seeds = Vec::new();
    for entry in fs::read_dir(folder(target))? {
        let entry = entry?;
        seeds.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    seeds.sort();
    Ok(seeds)
}
