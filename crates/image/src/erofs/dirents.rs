//! The contents of directories: blocks, each with its entries and then their names. Names are sorted over all blocks, because the
//! kernel searches by halving (`erofs_namei`).

use super::BLOCK;

/// The size of an entry without its name.
const DIRENT: u64 = 12;

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent<'a> {
    pub name: &'a [u8],
    pub nid: u64,
    /// `EROFS_FT_DIR`, ...
    pub kind: u8,
}

/// The size of a directory with these names, in their order.
pub fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut whole, mut used) = (0, 0);
    for name in names {
        let more = DIRENT + name.len() as u64;
        if used + more > BLOCK {
            whole += BLOCK;
            used = 0;
        }
        used += more;
    }
    whole + used
}

/// The content of a directory.
pub fn encode(dirents: &[Dirent<'_>]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut rest = dirents;
    while !rest.is_empty() {
        let mut used = 0;
        let fits = rest.iter().take_while(|dirent| {
            used += DIRENT + dirent.name.len() as u64;
            used <= BLOCK
        });
        let (block, after) = rest.split_at(fits.count().max(1));
        let start = content.len();
        let mut offset = block.len() * 12;
        for dirent in block {
            content.extend(dirent.nid.to_le_bytes());
            content.extend(u16::try_from(offset).unwrap_or_default().to_le_bytes());
            content.extend([dirent.kind, 0]);
            offset += dirent.name.len();
        }
        for dirent in block {
            content.extend(dirent.name);
        }
        if !after.is_empty() {
            content.resize(start + 4096, 0);
        }
        rest = after;
    }
    content
}
