//! A recording as a tree in memory. Symbolic links are resolved inside it: nothing leads out, for there is no outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::io::Errno;

use super::{FileKind, Result, Status};
use crate::record::{Entries, Entry, Kind};

/// As many links are followed as the kernel follows (path_resolution(7)).
const LINKS: u32 = 40;

/// All files of a recording.
#[derive(Debug, Default)]
pub struct Tree {
    top: Node,
    claimed: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Node {
    entry: Entry,
    children: BTreeMap<String, Node>,
}

/// A directory in a tree.
#[derive(Clone, Debug)]
pub struct Place {
    tree: Arc<Tree>,
    /// Its path, in which there is no link.
    at: String,
}

/// The names in a path.
pub fn components(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

impl Tree {
    /// Makes a tree of entries. Directories that have no entry of their own are there as well.
    pub fn new(entries: Entries) -> Self {
        let mut top = Node::default();
        for (path, entry) in entries.files {
            let mut node = &mut top;
            for name in components(&path) {
                node = node.children.entry(name.to_owned()).or_default();
            }
            node.entry = entry;
        }
        Self { top, claimed: entries.claimed }
    }

    /// Walks a path from the root on. A `..` at the root stays there, as after `chroot`.
    fn walk<'t>(&'t self, at: &str, path: &str, follow: bool) -> Result<Trail<'t>> {
        let mut trail = Trail { top: &self.top, steps: Vec::new() };
        let mut ahead: Vec<&str> = components(path).rev().chain(components(at).rev()).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                trail.steps.pop();
                continue;
            }
            let here = trail.node();
            if here.entry.kind != Kind::Directory {
                return Err(Errno::NOTDIR);
            }
            let Some((name, child)) = here.children.get_key_value(name) else {
                return Err(here.entry.error.unwrap_or(Errno::NOENT));
            };
            match &child.entry.kind {
                Kind::Link(target) if follow || !ahead.is_empty() => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP);
                    }
                    if target.starts_with('/') {
                        trail.steps.clear();
                    }
                    ahead.extend(components(target).rev());
                }
                _ => trail.steps.push((name, child)),
            }
        }
        Ok(trail)
    }
}

/// The way to a file.
struct Trail<'t> {
    top: &'t Node,
    steps: Vec<(&'t str, &'t Node)>,
}

impl<'t> Trail<'t> {
    fn node(&self) -> &'t Node {
        self.steps.last().map_or(self.top, |(_, node)| *node)
    }

    fn path(&self) -> String {
        let names: Vec<&str> = self.steps.iter().map(|(name, _)| *name).collect();
        names.join("/")
    }
}

impl Place {
    /// The root of a tree.
    pub const fn top(tree: Arc<Tree>) -> Self {
        Self { tree, at: String::new() }
    }

    fn node(&self, path: &str, follow: bool) -> Result<&Node> {
        Ok(self.tree.walk(&self.at, path, follow)?.node())
    }

    pub fn dir(&self, path: &str) -> Result<Self> {
        let trail = self.tree.walk(&self.at, path, true)?;
        match trail.node().entry.kind {
            Kind::Directory => Ok(Self { tree: Arc::clone(&self.tree), at: trail.path() }),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn content(&self, path: &str) -> Result<&[u8]> {
        let Entry { kind, error, .. } = &self.node(path, true)?.entry;
        match (kind, error) {
            (_, Some(errno)) => Err(*errno),
            (Kind::File(Some(content)), None) => Ok(content),
            (Kind::Directory, None) => Err(Errno::ISDIR),
            // It was there, but not read.
            _ => Err(Errno::ACCESS),
        }
    }

    pub fn bytes(&self, path: &str, limit: usize) -> Result<Vec<u8>> {
        let content = self.content(path)?;
        if content.len() > limit { Err(Errno::FBIG) } else { Ok(content.to_vec()) }
    }

    /// Reads once; how much was read.
    pub fn start(&self, path: &str, into: &mut [u8]) -> Result<usize> {
        let content = self.content(path)?;
        let length = content.len().min(into.len());
        if let (Some(into), Some(content)) = (into.get_mut(..length), content.get(..length)) {
            into.copy_from_slice(content);
        }
        Ok(length)
    }

    pub fn link(&self, path: &str) -> Result<String> {
        match &self.node(path, false)?.entry.kind {
            Kind::Link(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL),
        }
    }

    pub fn names(&self, path: &str, directories_only: bool) -> Result<Vec<String>> {
        let node = self.node(path, true)?;
        if let Some(errno) = node.entry.error {
            return Err(errno);
        }
        if node.entry.kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        let wanted = |node: &Node| !directories_only || node.entry.kind == Kind::Directory;
        let names = node.children.iter().filter(|(_, child)| wanted(child));
        Ok(names.map(|(name, _)| name.clone()).collect())
    }

    pub fn status(&self, path: &str, follow: bool) -> Result<Status> {
        let Entry { kind, mode, uid, gid, .. } = &self.node(path, follow)?.entry;
        let (kind, size, number) = match kind {
            Kind::Directory => (FileKind::Directory, 0, (0, 0)),
            Kind::Link(target) => (FileKind::Link, target.len(), (0, 0)),
            Kind::File(content) => (FileKind::File, content.as_ref().map_or(0, Vec::len), (0, 0)),
            Kind::Device { block: false, number } => (FileKind::Character, 0, *number),
            Kind::Device { block: true, number } => (FileKind::Block, 0, *number),
            Kind::Other => (FileKind::Other, 0, (0, 0)),
        };
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        Ok(Status { kind, mode: *mode, uid: *uid, gid: *gid, size, modified: 0, number })
    }

    pub fn is_claimed(&self, path: &str) -> bool {
        self.tree.claimed.contains(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(files: &[(&str, Kind)]) -> Place {
        let entry = |kind: &Kind| Entry { kind: kind.clone(), ..Entry::default() };
        let files = files.iter().map(|(path, kind)| ((*path).to_owned(), entry(kind))).collect();
        Place::top(Arc::new(Tree::new(Entries { files, ..Entries::default() })))
    }

    fn link(target: &str) -> Kind {
        Kind::Link(target.to_owned())
    }

    fn file(content: &str) -> Kind {
        Kind::File(Some(content.as_bytes().to_vec()))
    }

    #[test]
    fn links_are_resolved_inside() {
        let top = place(&[
            ("sys/a/file", file("inside")),
            ("sys/absolute", link("/sys/a")),
            ("sys/upwards", link("../../../../sys/a")),
            ("sys/outside", link("/etc/passwd")),
            ("sys/a/up", link("../../sys")),
        ]);
        for path in ["sys/absolute/file", "/sys/upwards/file", "../sys/a/./up/a/../a/file"] {
            assert_eq!(top.bytes(path, 10).unwrap(), b"inside", "{path}");
        }
        assert_eq!(top.bytes("sys/outside", 10), Err(Errno::NOENT));
        assert_eq!(top.link("sys/outside").unwrap(), "/etc/passwd");
        assert_eq!(top.dir("sys/absolute").unwrap().bytes("up/a/file", 10).unwrap(), b"inside");
        assert_eq!(top.names("sys", true).unwrap(), ["a"]);
        assert_eq!(top.names("sys", false).unwrap(), ["a", "absolute", "outside", "upwards"]);
    }

    #[test]
    fn circles_end() {
        let top = place(&[("a", link("b")), ("b", link("a")), ("self/self", link("."))]);
        assert_eq!(top.bytes("a", 10), Err(Errno::LOOP));
        assert_eq!(top.dir("b/c").unwrap_err(), Errno::LOOP);
        let far = format!("self{}", "/self".repeat(41));
        assert_eq!(top.dir(&far).unwrap_err(), Errno::LOOP);
        assert!(top.dir("self/self/self").is_ok());
    }

    #[test]
    fn errors_come_back() {
        let mut files = Entries::default();
        let entry = |kind, error| Entry { kind, error, ..Entry::default() };
        files.files.insert("broken".into(), entry(Kind::File(None), Some(Errno::IO)));
        files.files.insert("unread".into(), entry(Kind::File(None), None));
        files.files.insert("closed".into(), entry(Kind::Directory, Some(Errno::ACCESS)));
        files.files.insert("file".into(), entry(file("12345"), None));
        let top = Place::top(Arc::new(Tree::new(files)));
        assert_eq!(top.bytes("broken", 10), Err(Errno::IO));
        assert_eq!(top.bytes("unread", 10), Err(Errno::ACCESS));
        assert_eq!(top.names("closed", false), Err(Errno::ACCESS));
        assert_eq!(top.status("closed/inside", true), Err(Errno::ACCESS));
        assert_eq!(top.bytes("file", 4), Err(Errno::FBIG));
        assert_eq!(top.bytes("file/x", 4), Err(Errno::NOTDIR));
        assert_eq!(top.link("file"), Err(Errno::INVAL));
        assert_eq!(top.bytes("nothing", 4), Err(Errno::NOENT));
    }
}
