//! Generated hosts of any size, as trees of files or archives, for benchmarks and scale tests.
//!
//! Each root port has one card: in turn a GPU with its audio function, a NIC with two ports, and an NVMe drive. Every
//! function has the attributes of a real one, so that other programs can read the tree as well.

mod card;
mod medium;
mod processes;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use medium::{Archive, Disk, Medium};
pub use processes::ProcessCounts;

/// Root ports on one root bus: 30 devices of 8 functions.
const PORTS: usize = 240;

/// The size of a generated host.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of PCI functions.
    pub functions: usize,
    /// Whether functions also have the attributes that a listing does not need.
    pub whole: bool,
    /// Processes with open files, if any.
    pub processes: ProcessCounts,
}

/// A host that is being written.
struct Tree<'a> {
    medium: &'a mut dyn Medium,
    whole: bool,
    left: usize,
    next: card::Numbers,
}

/// Writes a host below `top`, which must exist and be empty.
///
/// # Errors
/// If a file cannot be written.
pub fn write(top: &Path, shape: Shape) -> Result<()> {
    generate(&mut Disk(top), shape)
}

/// Writes a host as an archive in the format of a recording: writing a hundred thousand small files takes minutes.
///
/// # Errors
/// If it cannot be written.
pub fn archive(into: impl Write, shape: Shape) -> Result<()> {
    let mut archive = Archive::new(into);
    generate(&mut archive, shape)?;
    archive.finish()
}

fn generate(medium: &mut dyn Medium, shape: Shape) -> Result<()> {
    let next = card::Numbers::default();
    let mut tree = Tree { medium, whole: shape.whole, left: shape.functions, next };
    for folder in [
        "sys/bus/pci/devices",
        "sys/bus/pci/drivers",
        "sys/bus/pci/slots",
        "sys/class/net",
        "sys/class/drm",
        "sys/class/block",
        "sys/class/nvme",
        "sys/class/iommu",
        "sys/dev/char",
        "sys/dev/block",
        "sys/kernel/iommu_groups",
        "sys/module",
        "proc",
    ] {
        tree.folder(folder)?;
    }
    for driver in ["pcieport", "nvidia", "snd_hda_intel", "mlx5_core", "nvme"] {
        tree.folder(&format!("sys/bus/pci/drivers/{driver}"))?;
        tree.folder(&format!("sys/module/{driver}"))?;
        tree.link(
            &format!("sys/bus/pci/drivers/{driver}/module"),
            &format!("../../../../module/{driver}"),
        )?;
    }
    tree.link("sys/class/iommu/dmar0", "../../devices/virtual/iommu/dmar0")?;
    tree.folder("sys/devices/virtual/iommu/dmar0")?;
    tree.machine()?;
    let mut domain = 0;
    while tree.left > 0 {
        for port in 0..PORTS {
            if tree.left == 0 {
                break;
            }
            tree.port(domain, port)?;
        }
        domain += 1;
    }
    processes::write(&mut tree, shape.processes).context("writing the processes")
}

impl Tree<'_> {
    fn folder(&mut self, path: &str) -> Result<()> {
        self.medium.folder(path).with_context(|| path.to_owned())
    }

    fn file(&mut self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        self.medium.file(path, content.as_ref()).with_context(|| path.to_owned())
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.medium.link(path, target).with_context(|| path.to_owned())
    }

    /// The common part: two sockets, two NUMA nodes, VFIO loaded.
    fn machine(&mut self) -> Result<()> {
        let release = "6.12.0-generated";
        self.folder("proc/sys/kernel/random")?;
        self.file("proc/sys/kernel/osrelease", format!("{release}\n"))?;
        self.file("proc/sys/kernel/random/boot_id", "52b61884-5ccc-4957-b573-cea8a3c2394b\n")?;
        self.folder("proc/self")?;
        self.file("proc/self/mountinfo", "21 1 0:19 / / rw shared:1 - ext4 /dev/sda1 rw\n")?;
        self.file("proc/swaps", "Filename Type Size Used Priority\n")?;
        self.file("proc/cmdline", "root=/dev/sda1 intel_iommu=on\n")?;
        self.file("proc/cpuinfo", "processor : 0\nvendor_id : GenuineIntel\nflags : fpu vmx\n")?;
        self.file("proc/meminfo", "MemTotal: 16384000 kB\nMemAvailable: 8192000 kB\n")?;
        for module in ["vfio", "vfio_pci", "vfio_iommu_type1", "iommufd"] {
            self.folder(&format!("sys/module/{module}/parameters"))?;
        }
        let noiommu = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        self.file(noiommu, "N\n")?;
        self.folder("sys/devices/system/cpu")?;
        self.folder("sys/devices/system/node")?;
        for file in ["online", "possible", "present"] {
            self.file(&format!("sys/devices/system/cpu/{file}"), "0-7\n")?;
            self.file(&format!("sys/devices/system/node/{file}"), "0-1\n")?;
        }
        for cpu in 0..8 {
            let (socket, mask) = (cpu / 4, 1 << cpu);
            let at = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            self.folder(&at)?;
            self.file(&format!("{at}/physical_package_id"), format!("{socket}\n"))?;
            self.file(&format!("{at}/core_id"), format!("{}\n", cpu % 4))?;
            self.file(&format!("{at}/thread_siblings"), format!("{mask:02x}\n"))?;
            self.file(&format!("{at}/core_siblings"), format!("{:02x}\n", 0xf << (socket * 4)))?;
        }
        for node in 0..2 {
            let at = format!("sys/devices/system/node/node{node}");
            self.folder(&at)?;
            self.file(&format!("{at}/cpulist"), format!("{}-{}\n", node * 4, node * 4 + 3))?;
            self.file(&format!("{at}/cpumap"), format!("{:02x}\n", 0xf << (node * 4)))?;
            self.file(&format!("{at}/distance"), ["10 21\n", "21 10\n"].get(node).unwrap_or(&""))?;
            let total = format!("Node {node} MemTotal:        8192000 kB\n");
            self.file(&format!("{at}/meminfo"), total)?;
            for cpu in node * 4..node * 4 + 4 {
                self.link(&format!("{at}/cpu{cpu}"), &format!("../../cpu/cpu{cpu}"))?;
            }
        }
        Ok(())
    }
}
