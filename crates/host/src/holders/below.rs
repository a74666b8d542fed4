//! The device nodes and network interfaces that hang below a function in sysfs.

use model::Address;

use crate::inventory::namespace;
use crate::root::{Dir, Root};

/// A USB disk behind a hub behind a function is 14 directories down.
const DEPTH: usize = 18;
/// The most directories looked into below one function.
const MOST: usize = 8192;
/// Directories that lead to nothing that can be opened.
const DULL: [&str; 4] = ["power", "msi_irqs", "link", "statistics"];

/// What is below a function.
#[derive(Debug, Default)]
pub struct Below {
    /// What can be opened.
    pub nodes: Vec<Node>,
    /// Disks and partitions, by name: `nvme0n1`, `nvme0n1p1`.
    pub disks: Vec<Disk>,
    /// Network interfaces.
    pub interfaces: Vec<String>,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Major and minor number.
    pub number: (u32, u32),
    /// Whether it is a block device.
    pub block: bool,
    /// Where it usually is, as a process sees it.
    pub path: String,
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// Major and minor number.
    pub number: (u32, u32),
    /// The block devices built on it (LVM, RAID, device mapper).
    pub built_on: Vec<String>,
}

/// Looks through everything below a directory of sysfs, without following links and without entering functions behind.
pub fn look(root: &Root, path: &str) -> Below {
    let mut below = Below::default();
    if let Ok(dir) = root.dir(path) {
        let mut walk = Walk { root, left: MOST, below: &mut below };
        walk.enter(&dir, ".", DEPTH);
    }
    below
}

/// `226:0`.
pub fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

struct Walk<'a> {
    root: &'a Root,
    left: usize,
    below: &'a mut Below,
}

impl Walk<'_> {
    fn enter(&mut self, dir: &Dir, path: &str, depth: usize) {
        if depth == 0 || self.left == 0 {
            return;
        }
        self.left -= 1;
        let Ok(names) = dir.directories(path) else { return };
        for name in names {
            if DULL.contains(&name.as_str()) || name.parse::<Address>().is_ok() {
                continue;
            }
            let at = format!("{path}/{name}");
            if path.ends_with("/net") {
                self.below.interfaces.push(name);
                continue;
            }
            self.node(dir, &at, &name);
            // One path of several to a namespace; what is mounted is its head, in another place.
            if let Some(head) = namespace(&name).filter(|head| *head != name)
                && let Ok(disk) = self.root.dir(&format!("sys/class/block/{head}"))
            {
                self.node(&disk, ".", &head);
                self.enter(&disk, ".", 2);
            }
            self.enter(dir, &at, depth - 1);
        }
    }

    /// Takes note of a directory that stands for something that can be opened.
    fn node(&mut self, dir: &Dir, at: &str, name: &str) {
        let Ok(number) = dir.text(&format!("{at}/dev")) else { return };
        let Some(number) = device_number(&number) else { return };
        let class = dir.link_name(&format!("{at}/subsystem")).unwrap_or_default();
        // Whoever reads an input device (a card's jack detection, say) can lose it at any time.
        if class == "input" {
            return;
        }
        let block = class == "block";
        if block {
            let built_on = dir.names(&format!("{at}/holders")).unwrap_or_default();
            self.below.disks.push(Disk { name: name.to_owned(), number, built_on });
        }
        let place = match class.as_str() {
            "drm" => "dri/",
            "sound" => "snd/",
            "vfio-dev" => "vfio/devices/",
            "infiniband_verbs" | "infiniband_mad" => "infiniband/",
            _ => "",
        };
        self.below.nodes.push(Node { number, block, path: format!("/dev/{place}{name}") });
    }
}
