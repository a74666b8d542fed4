//! The tree of an image in memory: names and metadata of files, not their contents.

use std::collections::{BTreeMap, HashSet};

use super::blocks::Content;
use crate::layer_problem::{LayerProblem, shown};

/// The most files, directories and links of an image. Each takes about 200 bytes of memory.
pub const MOST_FILES: usize = 1_500_000;

/// The most bytes of names, targets of links and extended attributes of an image.
pub const MOST_NAMES: u64 = 256 << 20;

/// The longest name, in bytes (`NAME_MAX`).
const LONGEST_NAME: usize = 255;

/// How many links lead to a directory at most, as in Linux (`MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;

/// The mode of a directory that no entry describes.
const IMPLIED: u16 = 0o755;

/// The index of an inode in the tree.
pub type Id = usize;

/// The root directory.
pub const ROOT: Id = 0;

/// What all kinds of files have.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// The mode without the type.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub seconds: i64,
    pub nanos: u32,
    /// As `erofs::xattrs` encodes them.
    pub xattrs: Box<[u8]>,
}

/// A file, directory, link, or device.
#[derive(Debug)]
pub struct Inode {
    pub attributes: Attributes,
    /// How many names lead to it; not used for directories.
    pub links: u32,
    pub kind: Kind,
}

/// The kinds of inodes.
#[derive(Debug)]
pub enum Kind {
    Directory(BTreeMap<Box<[u8]>, Name>),
    File(Content),
    Symlink(Box<[u8]>),
    /// With major and minor number.
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    pub id: Id,
    /// The last layer that changed it, or something below it.
    pub layer: usize,
}

/// The tree.
#[derive(Debug)]
pub struct Tree {
    inodes: Vec<Option<Inode>>,
    /// Indexes that are not used.
    unused: Vec<Id>,
    /// Bytes of names, targets and attributes.
    bytes: u64,
    /// Contents that no name leads to any more.
    freed: Vec<Content>,
    /// The directories of which this layer has hidden all lower layers: they are not searched again, however often it asks.
    hidden: (usize, HashSet<Id>),
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            inodes: vec![Some(directory())],
            unused: Vec::new(),
            bytes: 0,
            freed: Vec::new(),
            hidden: (0, HashSet::new()),
        }
    }
}

fn directory() -> Inode {
    let attributes = Attributes { mode: IMPLIED, ..Attributes::default() };
    Inode { attributes, links: 1, kind: Kind::Directory(BTreeMap::new()) }
}

impl Tree {
    /// An inode.
    pub fn get(&self, id: Id) -> Option<&Inode> {
        self.inodes.get(id)?.as_ref()
    }

    /// The names of a directory; `None` if it is none.
    pub fn names(&self, id: Id) -> Option<&BTreeMap<Box<[u8]>, Name>> {
        match &self.get(id)?.kind {
            Kind::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// How many indexes there are, used or not.
    pub fn indexes(&self) -> usize {
        self.inodes.len()
    }

    /// The contents that were freed since the last call.
    pub fn take_freed(&mut self) -> Vec<Content> {
        std::mem::take(&mut self.freed)
    }

    fn names_mut(&mut self, id: Id) -> Option<&mut BTreeMap<Box<[u8]>, Name>> {
        match &mut self.inodes.get_mut(id)?.as_mut()?.kind {
            Kind::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// Finds a name in a directory.
    pub fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        self.names(dir)?.get(name).map(|name| name.id)
    }

    /// The directory with this path. What is missing is made; a link of this layer is followed within the image; anything else in
    /// the way is replaced.
    pub fn make_way(&mut self, path: &[&[u8]], layer: usize) -> Result<Id, LayerProblem> {
        let mut rest: Vec<Vec<u8>> = path.iter().rev().map(|part| part.to_vec()).collect();
        // The directories above, for `..` in the targets of links.
        let mut way = vec![ROOT];
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let dir = way.last().copied().unwrap_or(ROOT);
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let found = self.names(dir).and_then(|names| names.get(part.as_slice())).copied();
            let kind = found.and_then(|name| self.get(name.id)).map(|inode| &inode.kind);
            match (found, kind) {
                (Some(name), Some(Kind::Directory(_))) => {
                    self.touch(dir, &part, layer);
                    way.push(name.id);
                }
                (Some(name), Some(Kind::Symlink(target))) if name.layer == layer => {
                    links += 1;
                    if links > MOST_LINKS || rest.len() > 4096 {
                        return Err(LayerProblem::TooManyLinks { path: shown(&path.join(&b'/')) });
                    }
                    if target.first() == Some(&b'/') {
                        way.truncate(1);
                    }
                    let parts = target.split(|byte| *byte == b'/').rev();
                    rest.extend(parts.map(<[u8]>::to_vec));
                }
                _ => way.push(self.put(dir, &part, directory(), layer)?),
            }
        }
        Ok(way.last().copied().unwrap_or(ROOT))
    }

    /// The directory with this path, if it is there. A link of this layer is followed.
    pub fn find(&self, path: &[&[u8]], layer: usize) -> Option<Id> {
        let mut rest: Vec<&[u8]> = path.iter().rev().copied().collect();
        let mut way = vec![ROOT];
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let dir = way.last().copied().unwrap_or(ROOT);
            match part {
                b"" | b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let name = self.names(dir)?.get(part)?;
            match &self.get(name.id)?.kind {
                Kind::Directory(_) => way.push(name.id),
                Kind::Symlink(target) if name.layer == layer && links < MOST_LINKS => {
                    links += 1;
                    if target.first() == Some(&b'/') {
                        way.truncate(1);
                    }
                    rest.extend(target.split(|byte| *byte == b'/').rev());
                }
                _ => return None,
            }
        }
        way.last().copied()
    }

    /// Marks a name as changed by this layer.
    pub fn touch(&mut self, dir: Id, name: &[u8], layer: usize) {
        if let Some(name) = self.names_mut(dir).and_then(|names| names.get_mut(name)) {
            name.layer = layer;
        }
    }

    /// Puts something in a directory, in the place of what has this name.
    pub fn put(
        &mut self,
        dir: Id,
        name: &[u8],
        inode: Inode,
        layer: usize,
    ) -> Result<Id, LayerProblem> {
        let size = inode.attributes.xattrs.len()
            + if let Kind::Symlink(target) = &inode.kind { target.len() } else { 0 };
        self.count(size)?;
        let id = if let Some(id) = self.unused.pop() {
            id
        } else {
            if self.inodes.len() >= MOST_FILES {
                return Err(LayerProblem::TooManyFiles { most: MOST_FILES });
            }
            self.inodes.push(None);
            self.inodes.len() - 1
        };
        if let Some(slot) = self.inodes.get_mut(id) {
            *slot = Some(inode);
        }
        self.name(dir, name, id, layer)?;
        Ok(id)
    }

    /// Gives an inode one more name.
    pub fn link(&mut self, dir: Id, name: &[u8], id: Id, layer: usize) -> Result<(), LayerProblem> {
        if let Some(inode) = self.inodes.get_mut(id).and_then(Option::as_mut) {
            inode.links = inode.links.saturating_add(1);
        }
        self.name(dir, name, id, layer)
    }

    fn name(&mut self, dir: Id, name: &[u8], id: Id, layer: usize) -> Result<(), LayerProblem> {
        if name.len() > LONGEST_NAME {
            return Err(LayerProblem::path_too_long(name));
        }
        // A name takes more than its bytes; many links to one file are names alone.
        self.count(name.len() + size_of::<Name>())?;
        self.remove(dir, name);
        if let Some(names) = self.names_mut(dir) {
            names.insert(name.into(), Name { id, layer });
        }
        Ok(())
    }

    fn count(&mut self, size: usize) -> Result<(), LayerProblem> {
        self.bytes = self.bytes.saturating_add(size as u64);
        if self.bytes > MOST_NAMES {
            return Err(LayerProblem::TooManyNames { most: MOST_NAMES });
        }
        Ok(())
    }

    /// Changes the attributes of an inode.
    pub fn describe(&mut self, id: Id, attributes: Attributes) -> Result<(), LayerProblem> {
        self.count(attributes.xattrs.len())?;
        if let Some(inode) = self.inodes.get_mut(id).and_then(Option::as_mut) {
            let before = inode.attributes.xattrs.len() as u64;
            inode.attributes = attributes;
            self.bytes = self.bytes.saturating_sub(before);
        }
        Ok(())
    }

    /// Removes a name and all that is below it.
    pub fn remove(&mut self, dir: Id, name: &[u8]) {
        let Some((name, found)) = self.names_mut(dir).and_then(|names| names.remove_entry(name))
        else {
            return;
        };
        self.uncount(name.len() + size_of::<Name>());
        let mut gone = vec![found.id];
        while let Some(id) = gone.pop() {
            let Some(slot) = self.inodes.get_mut(id) else { continue };
            if let Some(inode) = slot.as_mut().filter(|inode| inode.links > 1) {
                inode.links -= 1;
                continue;
            }
            let Some(inode) = slot.take() else { continue };
            self.unused.push(id);
            self.uncount(inode.attributes.xattrs.len());
            match inode.kind {
                Kind::Directory(names) => {
                    for (name, found) in names {
                        self.uncount(name.len() + size_of::<Name>());
                        gone.push(found.id);
                    }
                }
                Kind::File(content) => self.freed.push(content),
                Kind::Symlink(target) => self.uncount(target.len()),
                Kind::Char(..) | Kind::Block(..) | Kind::Fifo => {}
            }
        }
    }

    const fn uncount(&mut self, size: usize) {
        self.bytes = self.bytes.saturating_sub(size as u64);
    }

    /// Hides a name of lower layers; what this layer has made there stays.
    pub fn hide(&mut self, dir: Id, name: &[u8], layer: usize) {
        let Some(found) = self.names(dir).and_then(|names| names.get(name)).copied() else {
            return;
        };
        if found.layer < layer {
            self.remove(dir, name);
        } else {
            self.hide_below(found.id, layer);
        }
    }

    /// Hides all that lower layers have in a directory.
    pub fn hide_below(&mut self, dir: Id, layer: usize) {
        if self.hidden.0 != layer {
            self.hidden = (layer, HashSet::new());
        }
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop() {
            if !self.hidden.1.insert(dir) {
                continue;
            }
            let Some(names) = self.names(dir) else { continue };
            let below = names.iter().filter(|(_, name)| name.layer < layer);
            let below: Vec<Box<[u8]>> = below.map(|(name, _)| name.clone()).collect();
            dirs.extend(names.values().filter(|name| name.layer >= layer).map(|name| name.id));
            for name in below {
                self.remove(dir, &name);
            }
        }
    }
}
