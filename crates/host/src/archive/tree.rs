//! The files of a recording in little memory. A host with 10,000 functions has some 400,000 files, most of them with a
//! name and a content that thousands of others have: each text is there once, and files are numbers.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

use super::entries::{Entry, Kind};

/// The names in a path.
pub fn components(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

/// All files of a recording.
#[derive(Debug)]
pub struct Tree {
    /// The first is the root.
    nodes: Vec<Node>,
    /// The nodes that are in some directory, by directory and name.
    order: Vec<u32>,
    texts: Vec<Arc<[u8]>>,
    claimed: BTreeSet<String>,
}

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    name: Text,
    /// While the tree is built, the directory that it is in; then where in the order that is in it begins and ends.
    family: Family,
    /// What it is.
    pub what: NodeKind,
    /// Permission bits.
    pub mode: u16,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Why it could not be read.
    pub error: Option<Errno>,
    /// Whether it has an entry of its own, and is not only on the way to one.
    said: bool,
}

/// The number of a text.
type Text = u32;

#[derive(Clone, Copy, Debug)]
enum Family {
    Parent(u32),
    Children { start: u32, end: u32 },
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A symbolic link, and where it leads.
    Link(Text),
    /// A regular file that was read.
    File(Text),
    /// A regular file that was not.
    Unread,
    /// A device node.
    Device {
        /// A block device; else a character device.
        block: bool,
        /// Major and minor number.
        number: (u32, u32),
    },
    /// A FIFO or a socket.
    Other,
}

/// Why a file cannot be in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is another one of that name, of another kind.
    Twice,
    /// There are too many already.
    TooMany,
}

impl Tree {
    /// The root.
    pub fn top(&self) -> Option<&Node> {
        self.nodes.first()
    }

    /// What is in a directory, by name.
    pub fn children<'t>(&'t self, node: &Node) -> impl Iterator<Item = &'t Node> + use<'t> {
        self.range(node).iter().filter_map(|child| self.nodes.get(index(*child)))
    }

    /// What is in a directory under this name.
    pub fn child(&self, node: &Node, name: &str) -> Option<&Node> {
        let range = self.range(node);
        let called = |child: &u32| self.nodes.get(index(*child)).map(|node| self.text(node.name));
        let at = range.binary_search_by(|child| called(child).cmp(&Some(name.as_bytes())));
        self.nodes.get(index(*range.get(at.ok()?)?))
    }

    fn range(&self, node: &Node) -> &[u32] {
        let Family::Children { start, end } = node.family else { return &[] };
        self.order.get(Range { start: index(start), end: index(end) }).unwrap_or_default()
    }

    /// A node's name.
    pub fn name(&self, node: &Node) -> &str {
        // Paths are UTF-8, or the recording is refused.
        std::str::from_utf8(self.text(node.name)).unwrap_or_default()
    }

    /// A content, or where a link leads.
    pub fn text(&self, text: Text) -> &[u8] {
        self.texts.get(index(text)).map(AsRef::as_ref).unwrap_or_default()
    }

    /// Whether somebody had a block device for himself.
    pub fn is_claimed(&self, path: &str) -> bool {
        self.claimed.contains(path)
    }
}

/// A tree that is being made.
#[derive(Debug)]
pub struct Growing {
    nodes: Vec<Node>,
    places: HashMap<(u32, Text), u32>,
    texts: Vec<Arc<[u8]>>,
    numbers: HashMap<Arc<[u8]>, Text>,
    /// Block devices that somebody had for himself.
    pub claimed: BTreeSet<String>,
    /// How many files have entries.
    pub entries: usize,
}

impl Default for Growing {
    fn default() -> Self {
        let top = Node::new(0, 0);
        let nothing: Arc<[u8]> = Arc::from(&b""[..]);
        Self {
            nodes: vec![top],
            places: HashMap::new(),
            texts: vec![Arc::clone(&nothing)],
            numbers: HashMap::from([(nothing, 0)]),
            claimed: BTreeSet::new(),
            entries: 0,
        }
    }
}

impl Growing {
    /// Adds a file. Directories that have no entry of their own are there as well.
    pub fn insert(&mut self, path: &str, entry: Entry) -> Result<(), Unfit> {
        let what = match entry.kind {
            Kind::Directory => NodeKind::Directory,
            Kind::Link(target) => NodeKind::Link(self.number(target.as_bytes())?),
            Kind::File(Some(content)) => NodeKind::File(self.number(&content)?),
            Kind::File(None) => NodeKind::Unread,
            Kind::Device { block, number } => NodeKind::Device { block, number },
            Kind::Other => NodeKind::Other,
        };
        let mut at = 0;
        for name in components(path) {
            at = self.child(at, name)?;
        }
        let Some(node) = self.nodes.get_mut(index(at)) else { return Err(Unfit::TooMany) };
        if node.said && node.what != what {
            return Err(Unfit::Twice);
        }
        self.entries += usize::from(!node.said);
        node.said = true;
        node.what = what;
        // Only the twelve bits that chmod(2) knows are kept.
        node.mode = u16::try_from(entry.mode & 0o7777).unwrap_or_default();
        (node.uid, node.gid, node.error) = (entry.uid, entry.gid, entry.error);
        Ok(())
    }

    #[cfg(test)]
    fn has(&self, path: &str) -> bool {
        self.find(path).and_then(|at| self.nodes.get(index(at))).is_some_and(|node| node.said)
    }

    /// The text of a file that was read.
    pub fn text(&self, path: &str) -> Option<&str> {
        let node = self.nodes.get(index(self.find(path)?))?;
        let NodeKind::File(content) = node.what else { return None };
        std::str::from_utf8(self.texts.get(index(content))?).ok()
    }

    /// Says why a file could not be read, if it has an entry.
    pub fn fail(&mut self, path: &str, error: Errno) {
        let found = self.find(path).and_then(|at| self.nodes.get_mut(index(at)));
        if let Some(node) = found.filter(|node| node.said) {
            node.error = Some(error);
        }
    }

    /// The tree. Nothing can be added any more.
    pub fn grown(self) -> Tree {
        let Self { mut nodes, places, mut texts, numbers, claimed, .. } = self;
        drop((places, numbers));
        let parent = |node: &Node| match node.family {
            Family::Parent(parent) => parent,
            Family::Children { .. } => 0,
        };
        let key = |child: &u32| {
            let node = nodes.get(index(*child))?;
            Some((parent(node), texts.get(index(node.name))?))
        };
        // All but the root, which is in no directory.
        let mut order: Vec<u32> = (1..number(nodes.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        let parents: Vec<u32> = nodes.iter().map(parent).collect();
        for node in &mut nodes {
            node.family = Family::Children { start: 0, end: 0 };
        }
        for (at, child) in (0..).zip(&order) {
            let parent =
                parents.get(index(*child)).and_then(|parent| nodes.get_mut(index(*parent)));
            let Some(Node { family: Family::Children { start, end }, .. }) = parent else {
                continue;
            };
            if *start == *end {
                *start = at;
            }
            *end = at + 1;
        }
        nodes.shrink_to_fit();
        texts.shrink_to_fit();
        Tree { nodes, order, texts, claimed }
    }

    /// The node of a name in a directory, made where it is missing.
    fn child(&mut self, parent: u32, name: &str) -> Result<u32, Unfit> {
        let name = self.number(name.as_bytes())?;
        if let Some(child) = self.places.get(&(parent, name)) {
            return Ok(*child);
        }
        let child = number(self.nodes.len()).ok_or(Unfit::TooMany)?;
        self.nodes.push(Node::new(name, parent));
        self.places.insert((parent, name), child);
        Ok(child)
    }

    fn find(&self, path: &str) -> Option<u32> {
        components(path).try_fold(0, |at, name| {
            let name = self.numbers.get(name.as_bytes())?;
            self.places.get(&(at, *name)).copied()
        })
    }

    /// The number of a text.
    fn number(&mut self, text: &[u8]) -> Result<Text, Unfit> {
        if let Some(known) = self.numbers.get(text) {
            return Ok(*known);
        }
        let new = number(self.texts.len()).ok_or(Unfit::TooMany)?;
        let text: Arc<[u8]> = Arc::from(text);
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, new);
        Ok(new)
    }
}

impl Node {
    /// A directory that was not spoken of yet.
    const fn new(name: Text, parent: u32) -> Self {
        let what = NodeKind::Directory;
        let family = Family::Parent(parent);
        Self { name, family, what, mode: 0o755, uid: 0, gid: 0, error: None, said: false }
    }
}

fn number(length: usize) -> Option<u32> {
    u32::try_from(length).ok()
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn file(content: &str) -> Entry {
        let kind = Kind::File(Some(content.as_bytes().to_vec()));
        Entry { kind, ..Entry::default() }
    }

    fn walk<'t>(tree: &'t Tree, path: &str) -> Option<&'t Node> {
        components(path).try_fold(tree.top()?, |node, name| tree.child(node, name))
    }

    #[test]
    fn a_file_of_another_kind_is_not_the_same_file() {
        let mut growing = Growing::default();
        growing.insert("sys/a/b", file("1")).unwrap();
        assert!(!growing.has("sys/a") && growing.has("sys/a/b"));
        // Until now it was only on the way to another.
        growing.insert("sys/a", Entry::default()).unwrap();
        growing.insert("sys/a/b", file("1")).unwrap();
        assert_eq!(growing.insert("sys/a/b", Entry::default()), Err(Unfit::Twice));
        assert_eq!(growing.entries, 2);
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_found(files in proptest::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,3}", "[xy]{0,3}", 0..40), reverse: bool) {
            let mut growing = Growing::default();
            let mut order: Vec<_> = files.iter().collect();
            if reverse {
                order.reverse();
            }
            for (path, content) in order {
                growing.insert(path, file(content)).unwrap();
            }
            let tree = growing.grown();
            let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for (path, content) in &files {
                let node = walk(&tree, path).unwrap();
                let text = match node.what {
                    NodeKind::File(text) => Some(tree.text(text)),
                    _ => None,
                };
                prop_assert_eq!(text, Some(content.as_bytes()));
                for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
                    let (directory, name) = path[..at].rsplit_once('/').unwrap_or(("", &path[..at]));
                    names.entry(directory).or_default().insert(name);
                }
            }
            for (directory, names) in names {
                let node = walk(&tree, directory).unwrap();
                let children: Vec<_> = tree.children(node).map(|child| tree.name(child)).collect();
                prop_assert_eq!(children, names.into_iter().collect::<Vec<_>>());
            }
            prop_assert!(walk(&tree, "d").is_none());
        }
    }
}
