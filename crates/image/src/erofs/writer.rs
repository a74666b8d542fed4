//! Writes the metadata of an image: inodes, directories, superblock.

use super::blocks::{Blocks, Content};
use super::dirents::{self, Dirent};
use super::error::BuildError;
use super::places::Places;
use super::tree::{Id, Inode, Kind, ROOT, Tree};
use super::{
    BLOCK, INLINE, INODE, MAGIC, PLAIN, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, SLOT,
    SUPER_OFFSET, xattrs,
};
use crate::layer_problem::LayerProblem;

/// `EROFS_FEATURE_COMPAT_SB_CHKSUM` and `EROFS_FEATURE_COMPAT_MTIME`.
const FEATURES: u32 = 1 | 2;

/// What is written of one inode.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// Its offset in the metadata.
    place: u64,
    /// Its data in whole blocks, or all of it.
    data: Content,
    /// How many names lead to it.
    links: u32,
    /// The directory that it is in; for `..`.
    parent: Id,
}

/// Writes the metadata of a tree behind the contents, and returns the length of the image. `identity` is the file system's UUID.
pub fn write(mut blocks: Blocks, tree: &Tree, identity: [u8; 16]) -> Result<u64, BuildError> {
    let mut places = Places::default();
    let (order, mut plans) = order(tree);
    for id in &order {
        plan(&mut blocks, &mut places, tree, *id, &mut plans)?;
    }
    // fsck.erofs 1.5 (Debian 12) reads 12 bytes behind the last inode: one more block, which is a hole.
    let meta = blocks.take_blocks((places.blocks() + 1) * BLOCK)?;
    let writer = Writer { tree, plans: &plans, meta: u64::from(meta) * BLOCK };
    for (number, id) in (1..).zip(&order) {
        writer.inode(&mut blocks, *id, number)?;
    }
    let root = plans.get(ROOT).map_or(0, |plan| plan.place / SLOT);
    let total = u32::try_from(blocks.count()).unwrap_or(u32::MAX);
    let super_block = SuperBlock { meta, total, root, inodes: order.len() as u64, identity };
    blocks.write_at(&super_block.encode(), 0)?;
    let length = u64::from(total) * BLOCK;
    blocks.finish(length)?;
    Ok(length)
}

/// All inodes in the order of the tree, the root first, each once; with their links and parents.
fn order(tree: &Tree) -> (Vec<Id>, Vec<Plan>) {
    let mut plans = vec![Plan::default(); tree.indexes()];
    let mut order = Vec::new();
    let mut rest = vec![ROOT];
    while let Some(id) = rest.pop() {
        order.push(id);
        let Some(names) = tree.names(id) else { continue };
        let mut below = Vec::new();
        let mut dirs = 0;
        for name in names.values() {
            let Some(plan) = plans.get_mut(name.id) else { continue };
            plan.links += 1;
            if tree.names(name.id).is_some() {
                plan.parent = id;
                dirs += 1;
            }
            if plan.links == 1 {
                below.push(name.id);
            }
        }
        if let Some(plan) = plans.get_mut(id) {
            // `.`, `..` of each directory in it, and its name.
            plan.links = 2 + dirs;
        }
        rest.extend(below.into_iter().rev());
    }
    (order, plans)
}

/// Decides where an inode and its data are.
fn plan(
    blocks: &mut Blocks,
    places: &mut Places,
    tree: &Tree,
    id: Id,
    plans: &mut [Plan],
) -> Result<(), LayerProblem> {
    let (Some(inode), Some(plan)) = (tree.get(id), plans.get_mut(id)) else { return Ok(()) };
    let body = &inode.attributes.xattrs;
    let made = |size: u64, blocks: &mut Blocks| {
        let rest = size % BLOCK;
        let inline = rest > 0 && rest <= xattrs::room(body);
        let in_blocks = if inline { size - rest } else { size };
        let block = blocks.take_blocks(in_blocks)?;
        Ok(Content { size, block, tail: inline.then_some(0) })
    };
    plan.data = match &inode.kind {
        Kind::File(content) => *content,
        Kind::Directory(names) => made(dirents::size(with_dots(names.keys()).into_iter()), blocks)?,
        Kind::Symlink(target) => made(target.len() as u64, blocks)?,
        Kind::Char(..) | Kind::Block(..) | Kind::Fifo => Content::default(),
    };
    let inline = if plan.data.tail.is_some() { plan.data.rest() } else { 0 };
    plan.place = places.take((INODE + body.len()) as u64 + inline);
    Ok(())
}

/// Sorted names with `.` and `..`.
fn with_dots<'a>(names: impl Iterator<Item = &'a Box<[u8]>>) -> Vec<&'a [u8]> {
    let mut all: Vec<&[u8]> = names.map(|name| &**name).chain([b".".as_slice(), b".."]).collect();
    all.sort_unstable();
    all
}

struct Writer<'a> {
    tree: &'a Tree,
    plans: &'a [Plan],
    /// Where the metadata begins.
    meta: u64,
}

impl Writer<'_> {
    fn inode(&self, blocks: &mut Blocks, id: Id, number: u32) -> Result<(), BuildError> {
        let (Some(inode), Some(plan)) = (self.tree.get(id), self.plans.get(id)) else {
            return Ok(());
        };
        let mut bytes = header(inode, plan, number).to_vec();
        bytes.extend_from_slice(&inode.attributes.xattrs);
        let tail = match &inode.kind {
            Kind::File(content) => blocks.tail(content)?,
            Kind::Directory(names) => {
                let mut listed: Vec<Dirent<'_>> =
                    names.iter().map(|(name, found)| self.dirent(name, found.id)).collect();
                listed.push(self.dirent(b".", id));
                listed.push(self.dirent(b"..", plan.parent));
                listed.sort_unstable_by_key(|dirent| dirent.name);
                made(blocks, plan, &dirents::encode(&listed))?
            }
            Kind::Symlink(target) => made(blocks, plan, target)?,
            Kind::Char(..) | Kind::Block(..) | Kind::Fifo => Vec::new(),
        };
        bytes.extend_from_slice(&tail);
        Ok(blocks.write_at(&bytes, self.meta + plan.place)?)
    }

    fn dirent<'b>(&self, name: &'b [u8], id: Id) -> Dirent<'b> {
        let nid = self.plans.get(id).map_or(0, |plan| plan.place / SLOT);
        let kind = match self.tree.get(id).map(|inode| &inode.kind) {
            Some(Kind::File(_)) => 1,
            Some(Kind::Directory(_)) => 2,
            Some(Kind::Char(..)) => 3,
            Some(Kind::Block(..)) => 4,
            Some(Kind::Fifo) => 5,
            Some(Kind::Symlink(_)) => 7,
            None => 0,
        };
        Dirent { name, nid, kind }
    }
}

/// Writes what is in whole blocks, and returns what is inline.
fn made(blocks: &mut Blocks, plan: &Plan, content: &[u8]) -> Result<Vec<u8>, BuildError> {
    let inline = if plan.data.tail.is_some() { plan.data.rest() } else { 0 };
    let inline = usize::try_from(inline).unwrap_or_default();
    let (whole, tail) = content.split_at(content.len().saturating_sub(inline));
    if !whole.is_empty() {
        blocks.write_at(whole, u64::from(plan.data.block) * BLOCK)?;
    }
    Ok(tail.to_vec())
}

/// An extended inode (`struct erofs_inode_extended`).
fn header(inode: &Inode, plan: &Plan, number: u32) -> [u8; INODE] {
    let attributes = &inode.attributes;
    let (kind, links, value) = match &inode.kind {
        Kind::File(_) => (S_IFREG, inode.links, plan.data.block),
        Kind::Directory(_) => (S_IFDIR, plan.links, plan.data.block),
        Kind::Symlink(_) => (S_IFLNK, inode.links, plan.data.block),
        Kind::Char(major, minor) => (S_IFCHR, inode.links, device(*major, *minor)),
        Kind::Block(major, minor) => (S_IFBLK, inode.links, device(*major, *minor)),
        Kind::Fifo => (S_IFIFO, inode.links, 0),
    };
    let layout = if plan.data.tail.is_some() { INLINE } else { PLAIN };
    let mut bytes = Fields::<INODE>::new();
    bytes.u16(1 | layout << 1);
    bytes.u16(xattrs::count(&attributes.xattrs));
    bytes.u16(kind | attributes.mode);
    bytes.u16(0);
    bytes.u64(plan.data.size);
    bytes.u32(value);
    bytes.u32(number);
    bytes.u32(attributes.uid);
    bytes.u32(attributes.gid);
    bytes.u64(attributes.seconds.cast_unsigned());
    bytes.u32(attributes.nanos);
    bytes.u32(links);
    bytes.done()
}

/// A device number as the kernel has it on disks (`new_encode_dev`).
const fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

struct SuperBlock {
    meta: u32,
    total: u32,
    root: u64,
    inodes: u64,
    identity: [u8; 16],
}

impl SuperBlock {
    /// The first block.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Fields::<{ 4096 - SUPER_OFFSET }>::new();
        bytes.u32(MAGIC);
        bytes.u32(0);
        bytes.u32(FEATURES);
        // Blocks of 2^12 bytes; no slots behind the superblock.
        bytes.all(&[12, 0]);
        bytes.u16(u16::try_from(self.root).unwrap_or_default());
        bytes.u64(self.inodes);
        // The time of compact inodes, of which there are none.
        bytes.u64(0);
        bytes.u32(0);
        bytes.u32(self.total);
        bytes.u32(self.meta);
        bytes.u32(0);
        bytes.all(&self.identity);
        let mut body = bytes.done().to_vec();
        // Without the inversion at the end that the crate makes (`erofs_superblock_csum_verify`).
        let checksum = !crc32c::crc32c(&body);
        if let Some(field) = body.get_mut(4..8) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
        let mut block = vec![0; SUPER_OFFSET];
        block.append(&mut body);
        block
    }
}

/// Little-endian fields, one after another.
struct Fields<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Fields<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    fn all(&mut self, value: &[u8]) {
        if let Some(field) = self.bytes.get_mut(self.at..self.at + value.len()) {
            field.copy_from_slice(value);
        }
        self.at += value.len();
    }

    fn u16(&mut self, value: u16) {
        self.all(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.all(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.all(&value.to_le_bytes());
    }

    const fn done(self) -> [u8; N] {
        self.bytes
    }
}
