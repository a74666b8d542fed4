//! Where inodes are in the metadata: those that fit share a block, as an inline end may not cross into the next one.

use super::{BLOCK, SLOT};

/// How many blocks with room are remembered.
const OPEN: usize = 24;

/// What is taken of the metadata.
#[derive(Debug)]
pub struct Places {
    /// Blocks with room: their number and how much of them is taken.
    open: Vec<(u64, u64)>,
    /// The number of blocks.
    blocks: u64,
}

impl Default for Places {
    /// The first places are not used: no inode has the number 0, which programs take for a missing file.
    fn default() -> Self {
        Self { open: vec![(0, 2 * SLOT)], blocks: 1 }
    }
}

impl Places {
    /// Takes a place of `size` bytes and returns its offset. If it fits in a block, it is in one.
    pub fn take(&mut self, size: u64) -> u64 {
        let size = size.next_multiple_of(SLOT);
        let fits = self.open.iter_mut().filter(|(_, taken)| BLOCK - *taken >= size);
        if let Some((block, taken)) = fits.max_by_key(|(_, taken)| *taken) {
            let offset = *block * BLOCK + *taken;
            *taken += size;
            return offset;
        }
        let first = self.blocks;
        self.blocks += size.div_ceil(BLOCK);
        let rest = size % BLOCK;
        if rest > 0 {
            self.open.push((self.blocks - 1, rest));
        }
        if self.open.len() > OPEN {
            // The fullest is the least useful.
            let fullest = self.open.iter().enumerate().max_by_key(|(_, (_, taken))| *taken);
            if let Some(index) = fullest.map(|(index, _)| index) {
                self.open.swap_remove(index);
            }
        }
        first * BLOCK
    }

    /// How many blocks are taken.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }
}
