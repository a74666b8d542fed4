//! Device nodes, disks and network interfaces of a host, each with its PCI function.
//!
//! The kernel has a link for every device node in `/sys/dev/char` and `/sys/dev/block` (Documentation/ABI/stable/
//! sysfs-devices, drivers/base/core.c), and one for every interface in `/sys/class/net`. These directories and links
//! show all nodes of a host, so no directory below a function needs to be read.

mod class_path;
pub mod vfio;

use std::collections::{BTreeMap, HashMap};

use model::Address;
use uuid::Uuid;

use crate::root::Root;
use class_path::ClassPath;
pub use class_path::{address_of, below};

/// Major and minor number.
pub type Number = (u32, u32);

/// The character device major of `/dev/nvidia0` and its siblings (Documentation/admin-guide/devices.txt).
const NVIDIA: u32 = 195;

/// NVIDIA's directory of its GPUs: its numbering is not in sysfs.
pub const NVIDIA_GPUS: &str = "proc/driver/nvidia/gpus";

/// The nodes and interfaces of a host's functions.
#[derive(Debug, Default)]
pub struct Nodes {
    /// Character devices.
    pub characters: Vec<Character>,
    /// Disks, namespaces and partitions.
    pub disks: Vec<Disk>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// Directories that a host around this one shares.
    pub shares: Vec<Share>,
    /// The nodes `/dev/vfio/N` of VFIO groups.
    pub vfio_groups: BTreeMap<u32, Number>,
}

/// A character device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Character {
    /// Its function.
    pub address: Address,
    /// Its name in sysfs.
    pub name: String,
    /// Its number.
    pub number: Number,
    /// Its directory below `/dev`, with a `/` at its end; empty for `/dev` itself.
    pub dir: &'static str,
    /// The mediated device of the function, if the node belongs to one.
    pub mdev: Option<Uuid>,
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its function.
    pub address: Address,
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: Number,
    /// Whether it is a partition.
    pub partition: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its function.
    pub address: Address,
    /// Its name.
    pub name: String,
}

/// A directory that the host around this one shares by a virtio device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The device's function.
    pub address: Address,
    /// The file system's type, `9p` or `virtiofs`.
    pub kind: &'static str,
    /// The name to mount it by, if the kernel shows it.
    pub tag: Option<String>,
}

impl Character {
    /// Whether it is a `/dev/nvidiaN`.
    pub fn is_nvidia(&self) -> bool {
        self.number.0 == NVIDIA
    }

    /// Whether it is the function's own `/dev/vfio/devices/vfioN`.
    pub fn is_vfio(&self) -> bool {
        self.dir == "vfio/devices/" && self.mdev.is_none()
    }

    /// Its usual path.
    pub fn path(&self) -> String {
        let Self { number: (major, minor), dir, .. } = self;
        match *major {
            // USB_DEVICE_MAJOR: 128 devices a bus (drivers/usb/core/devio.c).
            189 => format!("/dev/bus/usb/{:03}/{:03}", minor / 128 + 1, minor % 128 + 1),
            _ => format!("/dev/{dir}{}", self.name.replace('!', "/")),
        }
    }
}

impl Disk {
    /// Its path; a `!` in sysfs stands for a `/`.
    pub fn path(&self) -> String {
        format!("/dev/{}", self.name.replace('!', "/"))
    }
}

/// Reads all nodes of a host. What does not exist or cannot be read is skipped.
pub fn read(root: &Root) -> Nodes {
    let mut nodes = Nodes::default();
    characters(root, &mut nodes);
    nvidia(root, &mut nodes.characters);
    nodes.disks = disks(root);
    for (name, target) in links(root, "sys/class/net") {
        let Some((address, _)) = below(&target) else { continue };
        nodes.interfaces.push(Interface { address, name });
    }
    nodes.shares = shares(root);
    nodes
}

/// The shares by 9p (`mount_tag` in net/9p/trans_virtio.c) and virtiofs (`/sys/fs/virtiofs`, fs/fuse/virtio_fs.c).
fn shares(root: &Root) -> Vec<Share> {
    let mut shares = Vec::new();
    for (name, target) in links(root, "sys/bus/virtio/drivers/9pnet_virtio") {
        let Some((address, _)) = below(&target) else { continue };
        let tag = root.attribute(&format!("sys/bus/virtio/devices/{name}/mount_tag"));
        // The kernel ends the tag with a NUL.
        let tag = tag.ok().map(|tag| tag.trim_end_matches('\0').to_owned());
        shares.push(Share { address, kind: "9p", tag });
    }
    let tagged = root.names("sys/fs/virtiofs").unwrap_or_default();
    let tag_of = |device: &str| {
        tagged.iter().find_map(|entry| {
            let linked = root.link_name(&format!("sys/fs/virtiofs/{entry}/device")).ok()?;
            let tag =
                (linked == device).then(|| root.attribute(&format!("sys/fs/virtiofs/{entry}/tag")));
            tag?.ok()
        })
    };
    for (name, target) in links(root, "sys/bus/virtio/drivers/virtiofs") {
        let Some((address, _)) = below(&target) else { continue };
        shares.push(Share { address, kind: "virtiofs", tag: tag_of(&name) });
    }
    shares
}

/// Only the VFIO nodes of these functions and groups.
pub fn read_vfio(root: &Root, addresses: &[Address], groups: &[u32]) -> Nodes {
    let group = |group: &u32| Some((*group, vfio::of_group(root, *group)?));
    Nodes {
        characters: addresses.iter().filter_map(|at| vfio::of_function(root, *at)).collect(),
        vfio_groups: groups.iter().filter_map(group).collect(),
        ..Nodes::default()
    }
}

/// The links in a directory and their targets; empty if there is no such directory.
fn links(root: &Root, path: &str) -> Vec<(String, String)> {
    let Ok(dir) = root.dir(path) else { return Vec::new() };
    let names = dir.names(".").unwrap_or_default().into_iter();
    names.filter_map(|name| dir.link(&name).ok().map(|target| (name, target))).collect()
}

fn characters(root: &Root, nodes: &mut Nodes) {
    let Ok(dir) = root.dir("sys/dev/char") else { return };
    for entry in dir.names(".").unwrap_or_default() {
        let number = device_number(&entry).filter(|number| !is_virtual(*number));
        let Some(number) = number else { continue };
        let Ok(target) = dir.link(&entry) else { continue };
        let Some((address, rest)) = below(&target) else {
            let group = target.rsplit_once("/virtual/vfio/").and_then(|(_, n)| n.parse().ok());
            nodes.vfio_groups.extend(group.map(|group: u32| (group, number)));
            continue;
        };
        let place = ClassPath::of(rest);
        // Processes that read an input device (such as a card's jack detection) do not count as users.
        if place.is_input() {
            continue;
        }
        let (name, dir) = (place.name.to_owned(), place.dir());
        let mdev = rest.split('/').next().and_then(|first| first.parse().ok());
        nodes.characters.push(Character { address, name, number, dir, mdev });
    }
}

/// Whether it is a memory device or a virtual console: half of a small host's nodes, none below a function
/// (Documentation/admin-guide/devices.txt).
const fn is_virtual((major, minor): Number) -> bool {
    matches!((major, minor), (1 | 7, _) | (4, 0..64))
}

fn nvidia(root: &Root, characters: &mut Vec<Character>) {
    for gpu in root.names(NVIDIA_GPUS).unwrap_or_default() {
        let Ok(address) = gpu.parse::<Address>() else { continue };
        let Some(minor) = nvidia_minor(root, address) else { continue };
        let (name, number) = (format!("nvidia{minor}"), (NVIDIA, minor));
        characters.push(Character { address, name, number, dir: "", mdev: None });
    }
}

/// The number of a GPU's `/dev/nvidiaN`. NVIDIA's driver has it in memory: reading does not wake the GPU.
pub fn nvidia_minor(root: &Root, address: Address) -> Option<u32> {
    nvidia_information(root, address, "Device Minor:")?.parse().ok()
}

/// The model name of a GPU from NVIDIA's driver: `NVIDIA H200`. It is `Unknown` for a GPU that failed to start.
pub fn nvidia_model(root: &Root, address: Address) -> Option<String> {
    nvidia_information(root, address, "Model:").filter(|model| model != "Unknown")
}

fn nvidia_information(root: &Root, address: Address, field: &str) -> Option<String> {
    let text = root.text(&format!("{NVIDIA_GPUS}/{address}/information")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field))?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn disks(root: &Root) -> Vec<Disk> {
    let mut disks = Vec::new();
    // By the name of the whole namespace: the namespace and its partitions.
    let mut heads: HashMap<String, Vec<(String, Number, bool)>> = HashMap::new();
    for (entry, target) in links(root, "sys/dev/block") {
        let Some(number) = device_number(&entry) else { continue };
        if let Some((address, rest)) = below(&target) {
            let place = ClassPath::of(rest);
            let (name, partition) = (place.name.to_owned(), place.is_partition());
            disks.push(Disk { address, name, number, partition });
        } else if let Some((_, rest)) = target.rsplit_once("/nvme-subsystem/") {
            let place = ClassPath::of(rest);
            let (name, partition) = (place.name.to_owned(), place.is_partition());
            let head = if partition { place.parent } else { place.name };
            heads.entry(head.to_owned()).or_default().push((name, number, partition));
        }
    }
    if !heads.is_empty() {
        disks.extend(behind_paths(root, &heads));
    }
    disks
}

/// The namespaces with several paths (NVMe multipath): each path is a hidden disk below its function, and the head,
/// which is mounted, is elsewhere in sysfs (drivers/nvme/host/multipath.c).
fn behind_paths(root: &Root, heads: &HashMap<String, Vec<(String, Number, bool)>>) -> Vec<Disk> {
    const DIR: &str = "sys/class/block";
    let mut disks = Vec::new();
    for path in root.names(DIR).unwrap_or_default() {
        let Some(head) = namespace(&path).filter(|head| *head != path) else { continue };
        let Some(parts) = heads.get(&head) else { continue };
        let Ok(target) = root.link(&format!("{DIR}/{path}")) else { continue };
        let Some((address, _)) = below(&target) else { continue };
        for (name, number, partition) in parts {
            let (name, number, partition) = (name.clone(), *number, *partition);
            disks.push(Disk { address, name, number, partition });
        }
    }
    // Two paths over one function show the same head.
    disks.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
    disks.dedup();
    disks
}

/// The functions of a namespace with several paths.
pub fn paths(root: &Root, head: &str) -> Vec<Address> {
    let heads = HashMap::from([(head.to_owned(), vec![(head.to_owned(), (0, 0), false)])]);
    behind_paths(root, &heads).into_iter().map(|disk| disk.address).collect()
}

/// The block device of a namespace: `nvme0n1`, or the head `nvme0n1` for one of several paths, `nvme0c1n1`
/// (`nvme_mpath_set_disk_name` in drivers/nvme/host/multipath.c).
pub fn namespace(name: &str) -> Option<String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (front, space) = name.strip_prefix("nvme")?.split_once('n')?;
    let (subsystem, path) = front.split_once('c').unwrap_or((front, "0"));
    let right = digits(subsystem) && digits(path) && digits(space);
    right.then(|| format!("nvme{subsystem}n{space}"))
}

/// Parses a number such as `226:0`.
pub fn device_number(text: &str) -> Option<Number> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_namespace_names_its_head() {
        assert_eq!(namespace("nvme0n1").as_deref(), Some("nvme0n1"));
        assert_eq!(namespace("nvme3c1n2").as_deref(), Some("nvme3n2"));
        for other in ["nvme0", "hwmon1", "ng0n1", "nvmexn1", "nvme0n1p1", "nvme0n"] {
            assert_eq!(namespace(other), None, "{other}");
        }
    }

    #[test]
    fn a_node_is_where_udev_puts_it() {
        let path = |rest: &str, number| {
            let place = ClassPath::of(rest);
            let address = "0000:01:00.0".parse().unwrap();
            let (name, dir) = (place.name.to_owned(), place.dir());
            Character { address, name, number, dir, mdev: None }.path()
        };
        assert_eq!(path("drm/renderD128", (226, 128)), "/dev/dri/renderD128");
        assert_eq!(path("sound/card0/pcmC0D3p", (116, 2)), "/dev/snd/pcmC0D3p");
        assert_eq!(path("vfio-dev/vfio3", (511, 3)), "/dev/vfio/devices/vfio3");
        assert_eq!(path("infiniband_verbs/uverbs0", (231, 192)), "/dev/infiniband/uverbs0");
        assert_eq!(path("usb2/2-1", (189, 129)), "/dev/bus/usb/002/002");
        assert_eq!(path("nvme/nvme0", (240, 0)), "/dev/nvme0");
    }
}
