//! The host's devices that a machine asks for: which they are, and how its pod gets them.

mod choose;
mod fixed;
mod memory;
mod nodes;
mod resource;
mod vfio;

use std::collections::BTreeMap;

use model::choose::Want;
use model::{Address, Code, Function, Inventory, Refusal};
use uuid::Uuid;

pub use choose::{Way, choose};
pub use fixed::fixed;
pub use memory::{MemoryLimit, asked, limit};
pub(crate) use memory::{TOLD, told};
pub use nodes::nodes;
pub(crate) use nodes::own_nodes;
pub use resource::{Resource, Vendor};
pub(crate) use vfio::opened;
pub use vfio::{Given, given, vfio, wants};

use crate::instance::Instance;
use crate::values::Below as _;

/// What a machine asks for of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How it comes in the machine.
    pub section: Section,
    /// The name that the machine gives it.
    pub name: String,
    /// The resource that it is asked for by, `nvidia.com/TESLA_P40`; of an interface its network's.
    pub resource: Resource,
}

/// Where a machine asks for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `devices.gpus`.
    Gpu,
    /// `devices.hostDevices`.
    HostDevice,
    /// `devices.interfaces` with `sriov`.
    Interface,
}

impl Section {
    /// The word of KubeVirt's field.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::HostDevice => "hostDevice",
            Self::Interface => "interface",
        }
    }
}

/// A node of the host that is mounted into the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name of the pod's volume.
    pub name: String,
    /// Its path, on the host and in the pod.
    pub path: String,
    /// Why it is there.
    pub why: String,
}

/// How a pod gets the devices of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// The nodes, each once.
    pub nodes: Vec<Node>,
    /// The names by which podman gives them, where it does not by their nodes (Container Device Interface).
    pub names: Vec<String>,
    /// What the launcher is told of them in its environment.
    pub env: Vec<(String, String)>,
    /// The virtual function of each network.
    pub networks: Vec<(String, String)>,
    /// Whether the guest's memory is locked, as VFIO does.
    pub lock_memory: bool,
    /// How many bytes may be taken of regions of device memory, by their names.
    pub memory_limits: Vec<(String, u64)>,
    /// The functions that they are of.
    pub functions: Vec<Address>,
    /// The mediated devices among them.
    pub mdevs: Vec<Uuid>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What is missing on the host and was allowed to be.
    pub missing: Vec<Refusal>,
}

/// What is known of the host.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Its hardware.
    pub inventory: &'a Inventory,
    /// Functions that somebody else has, and who.
    pub held: &'a BTreeMap<Address, String>,
    /// Mediated devices that somebody else has, and who.
    pub held_mdevs: &'a BTreeMap<Uuid, String>,
    /// Nodes of `/dev` that are not of one function, such as `/dev/kfd`; those that are there.
    pub present: &'a [String],
    /// What a person said that resources are.
    pub named: &'a BTreeMap<String, Want>,
}

/// What a machine asks for of the host.
#[must_use]
pub fn wanted(instance: &Instance) -> Vec<Wanted> {
    let spec = instance.spec();
    let mut all = Vec::new();
    for (path, section) in
        [("domain.devices.gpus", Section::Gpu), ("domain.devices.hostDevices", Section::HostDevice)]
    {
        all.extend(spec.list(path).iter().map(|device| Wanted {
            section,
            name: device.text("name").to_owned(),
            resource: Resource::new(device.text("deviceName")),
        }));
    }
    let interfaces = spec.list("domain.devices.interfaces").iter();
    all.extend(interfaces.filter(|one| one.has("sriov")).map(|interface| {
        let name = interface.text("name");
        let network = spec.list("networks").iter().find(|network| network.text("name") == name);
        let network = network.map_or(name, |network| network.text("multus.networkName"));
        Wanted {
            section: Section::Interface,
            name: name.to_owned(),
            resource: Resource::new(if network.is_empty() { name } else { network }),
        }
    }));
    all
}

impl Devices {
    /// Has the pod ask for them by these names: what a name stands for has the nodes.
    pub fn ask_by(&mut self, names: Vec<String>) {
        self.nodes.clear();
        self.names = names;
    }

    /// Adds a node, once.
    fn node(&mut self, name: impl Into<String>, path: impl Into<String>, why: impl Into<String>) {
        let path = path.into();
        if !self.nodes.iter().any(|node| node.path == path) {
            self.nodes.push(Node { name: name.into(), path, why: why.into() });
        }
    }

    /// Adds an address or UUID to what the launcher is told of a resource.
    fn tell(&mut self, name: String, value: &str) {
        match self.env.iter_mut().find(|(own, _)| *own == name) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(value);
            }
            None => self.env.push((name, value.to_owned())),
        }
    }
}

/// The nodes that all of NVIDIA's GPUs share.
const NVIDIA_SHARED: [&str; 4] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];

fn share_nvidia(devices: &mut Devices) {
    for name in NVIDIA_SHARED {
        devices.node(name, format!("/dev/{name}"), "NVIDIA's driver is spoken to by it");
    }
}

/// A function in a sentence.
fn shown(function: &Function) -> String {
    format!("{} ({})", function.address, function.title())
}

/// The refusal of a device that cannot be had.
fn refusal(code: Code, wanted: &Wanted, why: &str, remedy: impl Into<String>) -> Refusal {
    let Wanted { section, name, resource } = wanted;
    let message = format!("{} {name} asks for {resource}: {why}", section.word());
    Refusal::new(code, message, remedy)
}
