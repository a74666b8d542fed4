//! A recording as a tree in memory. Symbolic links are resolved inside it, so no link can lead out.

use std::sync::Arc;

use rustix::io::Errno;

use super::{FileKind, Result, Status};
use crate::archive::{Node, NodeKind, Tree, components};

/// The most links in one path, as in the kernel (path_resolution(7)).
const LINKS: u32 = 40;

/// A directory in a tree.
#[derive(Clone, Debug)]
pub struct TreeDir {
    tree: Arc<Tree>,
    /// Its path, without links.
    at: String,
}

/// The resolved path to a file.
struct Trail<'t> {
    tree: &'t Tree,
    top: &'t Node,
    steps: Vec<&'t Node>,
}

impl<'t> Trail<'t> {
    /// Resolves a path from the root. A `..` at the root stays there, as after `chroot`.
    fn walk(tree: &'t Tree, at: &str, path: &str, follow: bool) -> Result<Self> {
        let mut trail = Trail { tree, top: tree.top().ok_or(Errno::NOENT)?, steps: Vec::new() };
        let mut ahead: Vec<&str> = components(path).rev().chain(components(at).rev()).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                trail.steps.pop();
                continue;
            }
            let here = trail.node();
            if here.kind != NodeKind::Directory {
                return Err(Errno::NOTDIR);
            }
            let Some(child) = tree.child(here, name) else {
                return Err(here.error.unwrap_or(Errno::NOENT));
            };
            match child.kind {
                NodeKind::Link(target) if follow || !ahead.is_empty() => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = target_of(tree, target);
                    if target.starts_with('/') {
                        trail.steps.clear();
                    }
                    ahead.extend(components(target).rev());
                }
                _ => trail.steps.push(child),
            }
        }
        Ok(trail)
    }

    fn node(&self) -> &'t Node {
        self.steps.last().unwrap_or(&self.top)
    }

    fn path(&self) -> String {
        let names: Vec<&str> = self.steps.iter().map(|node| self.tree.name(node)).collect();
        names.join("/")
    }
}

/// The target of a link. A recording with a target that is not UTF-8 is refused.
fn target_of(tree: &Tree, target: u32) -> &str {
    std::str::from_utf8(tree.text(target)).unwrap_or_default()
}

impl TreeDir {
    /// The root of a tree.
    pub const fn top(tree: Arc<Tree>) -> Self {
        Self { tree, at: String::new() }
    }

    fn node(&self, path: &str, follow: bool) -> Result<&Node> {
        Ok(Trail::walk(&self.tree, &self.at, path, follow)?.node())
    }

    pub fn dir(&self, path: &str) -> Result<Self> {
        let trail = Trail::walk(&self.tree, &self.at, path, true)?;
        match trail.node().kind {
            NodeKind::Directory => Ok(Self { tree: Arc::clone(&self.tree), at: trail.path() }),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn content(&self, path: &str) -> Result<&[u8]> {
        let node = self.node(path, true)?;
        match (node.kind, node.error) {
            (_, Some(errno)) => Err(errno),
            (NodeKind::File(content), None) => Ok(self.tree.text(content)),
            (NodeKind::Directory, None) => Err(Errno::ISDIR),
            // It existed, but was not read.
            _ => Err(Errno::ACCESS),
        }
    }

    pub fn bytes(&self, path: &str, limit: usize) -> Result<Vec<u8>> {
        let content = self.content(path)?;
        if content.len() > limit { Err(Errno::FBIG) } else { Ok(content.to_vec()) }
    }

    /// Reads once; returns the number of bytes.
    pub fn start(&self, path: &str, into: &mut [u8]) -> Result<usize> {
        let content = self.content(path)?;
        let length = content.len().min(into.len());
        if let (Some(into), Some(content)) = (into.get_mut(..length), content.get(..length)) {
            into.copy_from_slice(content);
        }
        Ok(length)
    }

    pub fn link(&self, path: &str) -> Result<String> {
        match self.node(path, false)?.kind {
            NodeKind::Link(target) => Ok(target_of(&self.tree, target).to_owned()),
            _ => Err(Errno::INVAL),
        }
    }

    pub fn names(&self, path: &str, directories_only: bool) -> Result<Vec<String>> {
        let node = self.node(path, true)?;
        if let Some(errno) = node.error {
            return Err(errno);
        }
        if node.kind != NodeKind::Directory {
            return Err(Errno::NOTDIR);
        }
        let wanted = |node: &&Node| !directories_only || node.kind == NodeKind::Directory;
        let children = self.tree.children(node).filter(wanted);
        Ok(children.map(|child| self.tree.name(child).to_owned()).collect())
    }

    pub fn status(&self, path: &str, follow: bool) -> Result<Status> {
        let node = self.node(path, follow)?;
        let length = |text| self.tree.text(text).len();
        let (kind, size, number) = match node.kind {
            NodeKind::Directory => (FileKind::Directory, 0, (0, 0)),
            NodeKind::Link(target) => (FileKind::Link, length(target), (0, 0)),
            NodeKind::File(content) => (FileKind::File, length(content), (0, 0)),
            NodeKind::Unread => (FileKind::File, 0, (0, 0)),
            NodeKind::Device { block: false, number } => (FileKind::Character, 0, number),
            NodeKind::Device { block: true, number } => (FileKind::Block, 0, number),
            NodeKind::Other => (FileKind::Other, 0, (0, 0)),
        };
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let Node { mode, uid, gid, .. } = *node;
        Ok(Status { kind, mode: mode.into(), uid, gid, size, modified: 0, number })
    }

    pub fn is_claimed(&self, path: &str) -> bool {
        self.tree.is_claimed(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Entry, Kind, TreeBuilder};

    fn tree(files: impl IntoIterator<Item = (&'static str, Entry)>) -> TreeDir {
        let mut builder = TreeBuilder::default();
        files.into_iter().for_each(|(path, entry)| builder.insert(path, entry).unwrap());
        TreeDir::top(Arc::new(builder.build()))
    }

    fn place(files: &[(&'static str, Kind)]) -> TreeDir {
        let entry = |kind: &Kind| Entry { kind: kind.clone(), ..Entry::default() };
        tree(files.iter().map(|(path, kind)| (*path, entry(kind))))
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
    fn recorded_errors_are_returned() {
        let entry = |kind, error| Entry { kind, error, ..Entry::default() };
        let top = tree([
            ("broken", entry(Kind::File(None), Some(Errno::IO))),
            ("unread", entry(Kind::File(None), None)),
            ("closed", entry(Kind::Directory, Some(Errno::ACCESS))),
            ("file", entry(file("12345"), None)),
        ]);
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
