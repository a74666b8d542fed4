//! File systems of the kind EROFS, uncompressed: the root disks of container images.
//!
//! Every kernel since 5.4 mounts them, read-only. The format is that of `fs/erofs/erofs_fs.h` and
//! `Documentation/filesystems/erofs.rst` in Linux. The layout here: the superblock; the contents of files, in the order of the layers,
//! as they are unpacked; then the metadata (`meta_blkaddr`), in which small contents and the ends of larger ones are inline. So
//! contents are written once and never held in memory. Zeros become holes of the image file. The same tree gives the same bytes.
//!
//! Why not ext4: an EROFS image needs no size in advance, no journal and no free space, and no program of the host's.

mod blocks;
mod dirents;
mod error;
mod places;
mod reader;
mod tree;
mod writer;
pub mod xattrs;

#[cfg(test)]
pub mod tests;

pub use blocks::{Blocks, Chunk};
pub use error::BuildError;
pub use reader::{Found, FoundKind, Image};
pub use tree::{Attributes, Id, Inode, Kind, ROOT, Tree};
pub use writer::write;

/// The size of a block.
pub const BLOCK: u64 = 4096;

/// Where the superblock is.
const SUPER_OFFSET: usize = 1024;

/// `EROFS_SUPER_MAGIC_V1`.
const MAGIC: u32 = 0xE0F5_E1E2;

/// The size of an extended inode.
const INODE: usize = 64;

/// The unit of inode numbers: inode `nid` is at `nid * 32` in the metadata.
const SLOT: u64 = 32;

/// Data layouts of inodes (`EROFS_INODE_FLAT_PLAIN` and `EROFS_INODE_FLAT_INLINE`).
const PLAIN: u16 = 0;
const INLINE: u16 = 2;

/// The types in modes (`inode(7)`).
const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;
const S_IFMT: u16 = 0o170_000;
