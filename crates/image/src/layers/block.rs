//! The blocks of a tar archive.

use std::io::Read;

use crate::layer_problem::LayerProblem;

/// The size of a block.
pub const BLOCK: usize = 512;

/// Fills a block; false at the end of the archive.
pub fn read_block(inner: &mut impl Read, block: &mut [u8; BLOCK]) -> Result<bool, LayerProblem> {
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match inner.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(LayerProblem::Truncated),
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LayerProblem::unreadable(error)),
        }
    }
    Ok(true)
}
