//! Merges a layer into the tree: its entries replace what lower layers have, its whiteouts hide it.
//!
//! Names are followed in the tree only. `..` and absolute names stay within the image, as in a process whose root it is.

use std::io::Read;

use super::archive::{Archive, Entry, EntryKind};
use crate::Cancel;
use crate::erofs::{Attributes, Blocks, BuildError, Chunk, Id, Inode, Kind, ROOT, Tree, xattrs};
use crate::layer_problem::{LayerProblem, shown};

/// The prefix of names that hide a name of lower layers (image specification of OCI, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// The name that hides all that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Names of AUFS's own.
const OF_AUFS: &[u8] = b".wh..wh.";

/// The longest target of a symbolic link, in bytes: as Linux has it.
const LONGEST_TARGET: usize = 4095;

/// The largest major and minor numbers (`MAJOR` and `MINOR` in `linux/kdev_t.h`).
const MOST_MAJOR: u32 = (1 << 12) - 1;
const MOST_MINOR: u32 = (1 << 20) - 1;

/// What is merged into, and what ends it.
pub struct Merge<'a> {
    pub tree: &'a mut Tree,
    pub blocks: &'a mut Blocks,
    pub cancel: &'a Cancel,
}

impl Merge<'_> {
    /// Merges all of an archive, as the layer of this number.
    pub fn layer(
        &mut self,
        archive: &mut Archive<impl Read>,
        layer: usize,
    ) -> Result<(), BuildError> {
        while let Some(entry) = archive.next()? {
            self.cancel.check()?;
            self.entry(archive, entry, layer)?;
            for content in self.tree.take_freed() {
                self.blocks.free(&content)?;
            }
        }
        while archive.drain()? {
            self.cancel.check()?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        archive: &mut Archive<impl Read>,
        entry: Entry,
        layer: usize,
    ) -> Result<(), BuildError> {
        let parts = parts(&entry.path)?;
        let Some((name, above)) = parts.split_last() else {
            if entry.kind != EntryKind::Directory {
                return Err(LayerProblem::RootReplaced.into());
            }
            let attributes = attributes(&entry)?;
            return Ok(self.tree.describe(ROOT, attributes)?);
        };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return Ok(self.whiteout(above, name, hidden, layer)?);
        }
        let dir = self.tree.make_way(above, layer)?;
        match entry.kind {
            EntryKind::Directory => Ok(self.directory(dir, name, &entry, layer)?),
            EntryKind::Link => Ok(self.link(dir, name, &entry, layer)?),
            EntryKind::File => {
                let attributes = attributes(&entry)?;
                let room = xattrs::room(&attributes.xattrs);
                let cancel = self.cancel;
                let mut next = |buffer: &mut [u8]| -> Result<Chunk, BuildError> {
                    cancel.check()?;
                    Ok(archive.chunk(buffer)?)
                };
                let content = self.blocks.file(entry.size, room, &mut next)?;
                let inode = Inode { attributes, links: 1, kind: Kind::File(content) };
                Ok(self.tree.put(dir, name, inode, layer).map(drop)?)
            }
            _ => {
                let inode =
                    Inode { attributes: attributes(&entry)?, links: 1, kind: special(&entry)? };
                Ok(self.tree.put(dir, name, inode, layer).map(drop)?)
            }
        }
    }

    /// Hides what lower layers have. Nothing is made for it: the directory may be hidden itself.
    fn whiteout(
        &mut self,
        above: &[&[u8]],
        name: &[u8],
        hidden: &[u8],
        layer: usize,
    ) -> Result<(), LayerProblem> {
        if name == OPAQUE {
            let dir = self.tree.make_way(above, layer)?;
            self.tree.hide_below(dir, layer);
        } else if !name.starts_with(OF_AUFS) && !matches!(hidden, b"" | b"." | b"..") {
            let mut dir = ROOT;
            for part in above {
                match self.tree.child(dir, part) {
                    Some(next) => dir = next,
                    None => return Ok(()),
                }
            }
            self.tree.hide(dir, hidden, layer);
        }
        Ok(())
    }

    fn directory(
        &mut self,
        dir: Id,
        name: &[u8],
        entry: &Entry,
        layer: usize,
    ) -> Result<(), LayerProblem> {
        let attributes = attributes(entry)?;
        match self.tree.child(dir, name) {
            Some(found) if self.tree.names(found).is_some() => {
                self.tree.touch(dir, name, layer);
                self.tree.describe(found, attributes)
            }
            _ => {
                let kind = Kind::Directory(std::collections::BTreeMap::new());
                let inode = Inode { attributes, links: 1, kind };
                self.tree.put(dir, name, inode, layer).map(drop)
            }
        }
    }

    fn link(
        &mut self,
        dir: Id,
        name: &[u8],
        entry: &Entry,
        layer: usize,
    ) -> Result<(), LayerProblem> {
        let bad = || LayerProblem::BadLink { path: shown(&entry.path), target: shown(&entry.link) };
        let target = parts(&entry.link)?;
        let (last, above) = target.split_last().ok_or_else(bad)?;
        let found = self.tree.find(above, layer).and_then(|above| self.tree.child(above, last));
        let found = found.ok_or_else(bad)?;
        if self.tree.names(found).is_some() {
            return Err(bad());
        }
        if self.tree.child(dir, name) == Some(found) {
            self.tree.touch(dir, name, layer);
            return Ok(());
        }
        self.tree.link(dir, name, found, layer)
    }
}

/// The parts of a path. `..` is refused: no tool makes it, and what it means depends on links.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, LayerProblem> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<&[u8]> = parts.collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(LayerProblem::Outside { path: shown(path) });
    }
    Ok(parts)
}

fn attributes(entry: &Entry) -> Result<Attributes, LayerProblem> {
    let too_large = || LayerProblem::XattrsTooLarge { path: shown(&entry.path) };
    Ok(Attributes {
        // The kernel gives links all permissions, whatever an archive says.
        mode: if entry.kind == EntryKind::Symlink { 0o777 } else { entry.mode },
        uid: entry.uid,
        gid: entry.gid,
        seconds: entry.seconds,
        nanos: entry.nanos,
        xattrs: xattrs::encode(&entry.xattrs).ok_or_else(too_large)?,
    })
}

/// What an entry without content makes.
fn special(entry: &Entry) -> Result<Kind, LayerProblem> {
    let (major, minor) = entry.device;
    let path = || shown(&entry.path);
    match entry.kind {
        EntryKind::Symlink => {
            let target = &entry.link;
            if target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0) {
                return Err(LayerProblem::BadSymlink { path: path() });
            }
            Ok(Kind::Symlink(target.as_slice().into()))
        }
        EntryKind::Char | EntryKind::Block if major > MOST_MAJOR || minor > MOST_MINOR => {
            Err(LayerProblem::BadDevice { path: path() })
        }
        EntryKind::Char => Ok(Kind::Char(major, minor)),
        EntryKind::Block => Ok(Kind::Block(major, minor)),
        _ => Ok(Kind::Fifo),
    }
}
