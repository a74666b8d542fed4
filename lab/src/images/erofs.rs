//! File system images: erofs, uncompressed. It is written in one pass, has no size to guess, and every
//! file belongs to root whoever makes it; decompressing would cost an emulated processor more than reading.

use std::path::Path;

use anyhow::Result;

use crate::{process::run, tree::Tree};

/// Writes an image of all that lies below `folder`.
pub fn write(tools: &Tree, folder: &Path, image: &Path) -> Result<()> {
    run(tools
        .command("mkfs.erofs")?
        .args(["--quiet", "--all-root", "-T0", "-U00000000-0000-0000-0000-000000000000"])
        .arg(image)
        .arg(folder))
    .map(drop)
}
