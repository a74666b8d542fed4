//! Host devices that a machine requests, and how its pod gets them.

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
pub(crate) use memory::{DMEM_ANNOTATION, dmem_lines};
pub use memory::{MemoryLimit, asked, limit};
pub use nodes::nodes;
pub(crate) use nodes::own_nodes;
pub use resource::{Resource, Vendor};
pub(crate) use vfio::opened;
pub use vfio::{Given, given, vfio, wants};

use crate::instance::Instance;
use crate::values::Below as _;

/// A host device that a machine requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The section of the machine that requests it.
    pub section: Section,
    /// Its name in the machine.
    pub name: String,
    /// The requested resource, such as `nvidia.com/TESLA_P40`; for an interface that of its network.
    pub resource: Resource,
}

/// A section of a machine that requests devices.
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
    /// The singular of KubeVirt's field name, for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::HostDevice => "hostDevice",
            Self::Interface => "interface",
        }
    }
}

/// A host node that is mounted into the pod.
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
    /// The CDI names of the devices, if they are requested by name.
    pub names: Vec<String>,
    /// The launcher's environment variables for the devices.
    pub env: Vec<(String, String)>,
    /// The virtual function of each network.
    pub networks: Vec<(String, String)>,
    /// Whether VFIO locks the guest's memory.
    pub lock_memory: bool,
    /// Limits of regions of device memory in bytes, by name.
    pub memory_limits: Vec<(String, u64)>,
    /// The functions of the devices.
    pub functions: Vec<Address>,
    /// The mediated devices among them.
    pub mdevs: Vec<Uuid>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// What is missing on the host.
    pub missing: Vec<Refusal>,
}

/// The state of the host.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Its hardware.
    pub inventory: &'a Inventory,
    /// Functions in use, with their users.
    pub held: &'a BTreeMap<Address, String>,
    /// Mediated devices in use, with their users.
    pub held_mdevs: &'a BTreeMap<Uuid, String>,
    /// Existing nodes in `/dev` that several functions share, such as `/dev/kfd`.
    pub present: &'a [String],
    /// Resources that the user has defined.
    pub named: &'a BTreeMap<String, Want>,
}

/// A host device that a machine requests.
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
    /// Requests the devices by these CDI names; the specs contain the nodes.
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

    /// Adds an address or UUID to the launcher's variable of a resource.
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

/// The nodes that all NVIDIA GPUs share.
const NVIDIA_SHARED: [&str; 4] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];

fn share_nvidia(devices: &mut Devices) {
    for name in NVIDIA_SHARED {
        devices.node(name, format!("/dev/{name}"), "control node of NVIDIA's driver");
    }
}

/// A function for messages.
fn shown(function: &Function) -> String {
    format!("{} ({})", function.address, function.title())
}

/// The refusal of a USB device.
fn usb(wanted: &Wanted) -> Refusal {
    let resource = &wanted.resource;
    let why = "it looks like a USB device (permittedHostDevices.usb); Handover assigns no USB devices, only whole USB controllers";
    let remedy = format!(
        "remove it, or define the name as a controller: --resource {resource}=0000:00:14.0; `handover ls --type usb` lists them"
    );
    refusal(Code::InvalidRequest, wanted, why, remedy)
}

/// The refusal of a requested device.
fn refusal(code: Code, wanted: &Wanted, why: &str, remedy: impl Into<String>) -> Refusal {
    let Wanted { section, name, resource } = wanted;
    let message = format!("{} {name} requests {resource}: {why}", section.word());
    Refusal::new(code, message, remedy)
}
