//! File system images: erofs, uncompressed. It is written in one pass, without a size chosen in advance, and every file
//! belongs to root; on an emulated processor decompression would cost more than reading.

use std::path::Path;

use anyhow::Result;

use crate::{process::run, tree::Tree};

/// Writes an image of everything below `folder`.
pub fn write(tools: &Tree, folder: &Path, image: &Path) -> Result<()> {
    run(tools
        .command("mkfs.erofs")?
        .args(["--quiet", "--all-root", "-T0", "-U00000000-0000-0000-0000-000000000000"])
        .arg(image)
        .arg(folder))
    .map(drop)
}
