//! The files of a recording in little memory. A host with 10,000 functions has some 400,000 files, most of them with
//! the same name and contents as thousands of others: each text is stored once, and files refer to texts by number.

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
    /// All nodes except the root, sorted by directory and name.
    order: Vec<u32>,
    texts: Vec<Arc<[u8]>>,
    claimed: BTreeSet<String>,
}

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    name: Text,
    /// While the tree is built, its directory; then the range of its children in [`Tree::order`].
    family: Family,
    /// Its kind.
    pub kind: NodeKind,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Why it could not be read.
    pub error: Option<Errno>,
    /// Whether it has its own entry, and is not only a directory in the path of another.
    explicit: bool,
}

/// The number of a text.
type Text = u32;

#[derive(Clone, Copy, Debug)]
enum Family {
    Parent(u32),
    Children { start: u32, end: u32 },
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A symbolic link, and its target.
    Link(Text),
    /// A regular file that was read.
    File(Text),
    /// A regular file that was not read.
    Unread,
    /// A device node.
    Device {
        /// Whether it is a block device; else a character device.
        block: bool,
        /// Major and minor number.
        number: (u32, u32),
    },
    /// A FIFO or a socket.
    Other,
}

/// Why a file cannot be added to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is another file with that path, of another kind.
    Twice,
    /// There are too many files.
    TooMany,
}

impl Tree {
    /// The root.
    pub fn top(&self) -> Option<&Node> {
        self.nodes.first()
    }

    /// The files in a directory, sorted by name.
    pub fn children<'t>(&'t self, node: &Node) -> impl Iterator<Item = &'t Node> + use<'t> {
        self.range(node).iter().filter_map(|child| self.nodes.get(index(*child)))
    }

    /// The file with this name in a directory.
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
        // A recording with paths that are not UTF-8 is refused.
        std::str::from_utf8(self.text(node.name)).unwrap_or_default()
    }

    /// The contents of a file, or the target of a link.
    pub fn text(&self, text: Text) -> &[u8] {
        self.texts.get(index(text)).map(AsRef::as_ref).unwrap_or_default()
    }

    /// Whether a block device was claimed exclusively.
    pub fn is_claimed(&self, path: &str) -> bool {
        self.claimed.contains(path)
    }
}

/// A tree under construction.
#[derive(Debug)]
pub struct TreeBuilder {
    nodes: Vec<Node>,
    children: HashMap<(u32, Text), u32>,
    texts: Vec<Arc<[u8]>>,
    numbers: HashMap<Arc<[u8]>, Text>,
    /// Block devices that were claimed exclusively.
    pub claimed: BTreeSet<String>,
    /// The number of files with entries.
    pub entries: usize,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        let top = Node::new(0, 0);
        let nothing: Arc<[u8]> = Arc::from(&b""[..]);
        Self {
            nodes: vec![top],
            children: HashMap::new(),
            texts: vec![Arc::clone(&nothing)],
            numbers: HashMap::from([(nothing, 0)]),
            claimed: BTreeSet::new(),
            entries: 0,
        }
    }
}

impl TreeBuilder {
    /// Adds a file, and the directories above it.
    pub fn insert(&mut self, path: &str, entry: Entry) -> Result<(), Unfit> {
        let kind = match entry.kind {
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
        if node.explicit && node.kind != kind {
            return Err(Unfit::Twice);
        }
        self.entries += usize::from(!node.explicit);
        node.explicit = true;
        node.kind = kind;
        // Only the twelve bits of chmod(2) are kept.
        node.mode = u16::try_from(entry.mode & 0o7777).unwrap_or_default();
        (node.uid, node.gid, node.error) = (entry.uid, entry.gid, entry.error);
        Ok(())
    }

    #[cfg(test)]
    fn has(&self, path: &str) -> bool {
        self.find(path).and_then(|at| self.nodes.get(index(at))).is_some_and(|node| node.explicit)
    }

    /// The text of a file that was read.
    pub fn text(&self, path: &str) -> Option<&str> {
        let node = self.nodes.get(index(self.find(path)?))?;
        let NodeKind::File(content) = node.kind else { return None };
        std::str::from_utf8(self.texts.get(index(content))?).ok()
    }

    /// Sets the error of a file that has an entry.
    pub fn fail(&mut self, path: &str, error: Errno) {
        let found = self.find(path).and_then(|at| self.nodes.get_mut(index(at)));
        if let Some(node) = found.filter(|node| node.explicit) {
            node.error = Some(error);
        }
    }

    /// Builds the tree.
    pub fn build(self) -> Tree {
        let Self { mut nodes, children, mut texts, numbers, claimed, .. } = self;
        drop((children, numbers));
        let parent = |node: &Node| match node.family {
            Family::Parent(parent) => parent,
            Family::Children { .. } => 0,
        };
        let key = |child: &u32| {
            let node = nodes.get(index(*child))?;
            Some((parent(node), texts.get(index(node.name))?))
        };
        // All except the root, which is in no directory.
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

    /// The node with a name in a directory; created if it is missing.
    fn child(&mut self, parent: u32, name: &str) -> Result<u32, Unfit> {
        let name = self.number(name.as_bytes())?;
        if let Some(child) = self.children.get(&(parent, name)) {
            return Ok(*child);
        }
        let child = number(self.nodes.len()).ok_or(Unfit::TooMany)?;
        self.nodes.push(Node::new(name, parent));
        self.children.insert((parent, name), child);
        Ok(child)
    }

    fn find(&self, path: &str) -> Option<u32> {
        components(path).try_fold(0, |at, name| {
            let name = self.numbers.get(name.as_bytes())?;
            self.children.get(&(at, *name)).copied()
        })
    }

    /// The number of a text, which is stored if it is new.
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
    /// A directory without its own entry.
    const fn new(name: Text, parent: u32) -> Self {
        let kind = NodeKind::Directory;
        let family = Family::Parent(parent);
        Self { name, family, kind, mode: 0o755, uid: 0, gid: 0, error: None, explicit: false }
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
        let mut builder = TreeBuilder::default();
        builder.insert("sys/a/b", file("1")).unwrap();
        assert!(!builder.has("sys/a") && builder.has("sys/a/b"));
        // Until now it was only in the path of another.
        builder.insert("sys/a", Entry::default()).unwrap();
        builder.insert("sys/a/b", file("1")).unwrap();
        assert_eq!(builder.insert("sys/a/b", Entry::default()), Err(Unfit::Twice));
        assert_eq!(builder.entries, 2);
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_found(files in proptest::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,3}", "[xy]{0,3}", 0..40), reverse: bool) {
            let mut builder = TreeBuilder::default();
            let mut order: Vec<_> = files.iter().collect();
            if reverse {
                order.reverse();
            }
            for (path, content) in order {
                builder.insert(path, file(content)).unwrap();
            }
            let tree = builder.build();
            let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for (path, content) in &files {
                let node = walk(&tree, path).unwrap();
                let text = match node.kind {
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
