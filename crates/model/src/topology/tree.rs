//! The tree: NUMA nodes, root buses, ports, switches, devices.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::distance::root_bus;
use crate::{Address, Assembly, Function, Inventory, Kind, Link, OwnState, PortType};

/// A domain has 256 buses (PCI Express Base Specification, 2.2.4.1), so no real path of bridges is longer. A function
/// with a longer path is shown on its root bus.
const DEEPEST: usize = 256;

/// The tree of a whole host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// By number; functions on no known node come last.
    pub nodes: Vec<TopologyNode>,
}

/// A NUMA node with its root buses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyNode {
    /// Its number; `None` if unknown.
    pub node: Option<u32>,
    /// The sockets that its processors are in.
    pub sockets: Vec<u32>,
    /// Its processors as the kernel lists them: `0-15,32-47`.
    pub cpus: String,
    /// Memory in bytes.
    pub memory: u64,
    /// The kernel's distance to each node, in the order of their numbers.
    pub distances: Vec<u32>,
    /// By domain and bus.
    pub root_buses: Vec<RootBus>,
}

/// A root bus: the bus below one host bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootBus {
    /// Its domain and number: `0000:00`.
    pub bus: String,
    /// Functions on it.
    pub children: Vec<TreeFunction>,
}

/// One function of the tree. Virtual functions are folded into their physical function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFunction {
    /// Its address.
    pub address: Address,
    /// Its part in the tree.
    pub part: Part,
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The driver that is bound to it.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// Its link, if detail was read.
    pub link: Option<Link>,
    /// The narrowest link of a switch above it, if that carries less than the function's own link can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,
    /// The head of its assembly.
    pub assembly: Option<Address>,
    /// Whose it is, or that it needs manual attention, in words: `claimed: job/7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Whether it is irrelevant for a hand-over (host bridges, sensors, idle ports).
    pub clutter: bool,
    /// The number of virtual functions that it supports; 0 without SR-IOV.
    pub possible_vfs: u16,
    /// Its existing virtual functions.
    pub virtual_functions: Vec<Address>,
    /// The number of its mediated devices.
    pub mdevs: usize,
    /// Functions behind it, if it is a bridge.
    pub children: Vec<Self>,
}

/// A link of a switch towards the processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The switch.
    pub switch: Address,
    /// Its link.
    pub link: Link,
}

/// The role of a function in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A port of the root complex.
    RootPort,
    /// The side of a switch that faces the processor.
    SwitchUpstream,
    /// A side of a switch that faces devices.
    SwitchDownstream,
    /// Another bridge, such as one to conventional PCI.
    Bridge,
    /// A function that is not a bridge.
    Device,
}

impl Topology {
    /// The tree of a host. Any inventory is accepted: a function with missing bridges is attached to the rest of its
    /// path.
    #[must_use]
    pub fn of(inventory: &Inventory) -> Self {
        let plan = Plan::of(inventory);
        let mut buses: BTreeMap<(u32, u8), Vec<TreeFunction>> = BTreeMap::new();
        for address in plan.children.get(&None).into_iter().flatten() {
            let Some(function) = inventory.function(*address) else { continue };
            buses.entry(root_bus(function)).or_default().push(plan.place(function, None, None));
        }
        let node_of = nodes_of_buses(inventory);
        let mut nodes: BTreeMap<u32, TopologyNode> =
            inventory.numa_nodes.keys().map(|number| (*number, node(inventory, *number))).collect();
        let mut homeless = TopologyNode::default();
        for (key, children) in buses {
            let bus = RootBus { bus: format!("{:04x}:{:02x}", key.0, key.1), children };
            match node_of.get(&key) {
                Some(number) => nodes
                    .entry(*number)
                    .or_insert_with(|| node(inventory, *number))
                    .root_buses
                    .push(bus),
                None => homeless.root_buses.push(bus),
            }
        }
        let mut nodes: Vec<TopologyNode> = nodes.into_values().collect();
        if !homeless.root_buses.is_empty() {
            nodes.push(homeless);
        }
        Self { nodes }
    }

    /// All functions, parents first.
    pub fn functions(&self) -> impl Iterator<Item = &TreeFunction> {
        let mut open: Vec<&TreeFunction> = Vec::new();
        let buses = self.nodes.iter().flat_map(|node| &node.root_buses);
        open.extend(buses.flat_map(|bus| &bus.children));
        open.reverse();
        std::iter::from_fn(move || {
            let place = open.pop()?;
            open.extend(place.children.iter().rev());
            Some(place)
        })
    }

    /// Says of each assembly whose it is, or that it needs manual attention.
    pub fn add_states(&mut self, inventory: &Inventory, own: &OwnState) {
        fn add(places: &mut [TreeFunction], inventory: &Inventory, own: &OwnState) {
            for place in places {
                if place.assembly == Some(place.address) {
                    let assembly = Assembly::of(inventory, place.address);
                    place.state = assembly.and_then(|assembly| own.words(&assembly));
                }
                add(&mut place.children, inventory, own);
            }
        }
        let buses = self.nodes.iter_mut().flat_map(|node| &mut node.root_buses);
        buses.for_each(|bus| add(&mut bus.children, inventory, own));
    }

    /// The tree with only the selected functions and the bridges above them.
    #[must_use]
    pub fn keeping(mut self, wanted: &dyn Fn(&TreeFunction) -> bool) -> Self {
        fn prune(places: &mut Vec<TreeFunction>, wanted: &dyn Fn(&TreeFunction) -> bool) {
            places.retain_mut(|place| {
                let itself = wanted(place);
                prune(&mut place.children, wanted);
                itself || !place.children.is_empty()
            });
        }
        for node in &mut self.nodes {
            for bus in &mut node.root_buses {
                prune(&mut bus.children, wanted);
            }
            node.root_buses.retain(|bus| !bus.children.is_empty());
        }
        // The kernel's nodes have processors and memory to show; the unknown one has only functions.
        self.nodes.retain(|node| node.node.is_some() || !node.root_buses.is_empty());
        self
    }
}

impl TreeFunction {
    /// Whether distances are shown for it: GPUs, accelerators, NICs and NVMe drives.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        matches!(self.kind, Kind::Gpu | Kind::Accelerator | Kind::Nic | Kind::Nvme)
    }
}

/// The structure of the tree.
struct Plan<'a> {
    inventory: &'a Inventory,
    /// Functions by the bridge above them; `None` is a root bus.
    children: HashMap<Option<Address>, Vec<Address>>,
    virtual_functions: HashMap<Address, Vec<Address>>,
    assemblies: HashMap<Address, Address>,
}

impl<'a> Plan<'a> {
    fn of(inventory: &'a Inventory) -> Self {
        let mut all = Assembly::all(inventory);
        all.sort_by_key(|assembly| {
            let kind = inventory.function(assembly.head).map(Function::kind);
            Kind::ALL.iter().position(|other| Some(*other) == kind)
        });
        // The head of an assembly is shown as such, even if another assembly also takes it; other functions belong to
        // the first assembly that takes them, in the order in which heads are chosen.
        let mut assemblies: HashMap<Address, Address> =
            all.iter().map(|assembly| (assembly.head, assembly.head)).collect();
        for assembly in &all {
            for member in assembly.taken() {
                assemblies.entry(member.address).or_insert(assembly.head);
            }
        }
        let mut plan = Self {
            inventory,
            children: HashMap::new(),
            virtual_functions: HashMap::new(),
            assemblies,
        };
        for function in inventory.functions.values() {
            if let Some(physical) = folded_into(inventory, function) {
                plan.virtual_functions.entry(physical).or_default().push(function.address);
            } else {
                let above = parent(inventory, function);
                plan.children.entry(above).or_default().push(function.address);
            }
        }
        plan
    }

    fn place(
        &self,
        function: &Function,
        above: Option<Part>,
        uplink: Option<&Uplink>,
    ) -> TreeFunction {
        let behind = self.children.get(&Some(function.address)).map_or(&[][..], Vec::as_slice);
        let behind = behind.iter().filter_map(|address| self.inventory.function(*address));
        let part = part(function, above, behind.clone().any(|f| f.kind() == Kind::Bridge));
        let link = function.detail.as_ref().and_then(|detail| detail.link.clone());
        let own = (part == Part::SwitchUpstream)
            .then(|| link.clone().filter(|link| bandwidth(link) > 0))
            .flatten()
            .map(|link| Uplink { switch: function.address, link });
        let narrowest = own.iter().chain(uplink).min_by_key(|one| bandwidth(&one.link));
        let children: Vec<TreeFunction> =
            behind.map(|child| self.place(child, Some(part), narrowest)).collect();
        let limits = |one: &&Uplink| {
            link.as_ref().is_some_and(|link| part == Part::Device && is_less(&one.link, link))
        };
        let virtual_functions =
            self.virtual_functions.get(&function.address).cloned().unwrap_or_default();
        TreeFunction {
            address: function.address,
            part,
            kind: function.kind(),
            name: function.title(),
            driver: function.driver.clone(),
            iommu_group: function.iommu_group,
            uplink: uplink.filter(limits).cloned(),
            link,
            assembly: self.assemblies.get(&function.address).copied(),
            state: None,
            clutter: is_clutter(function, &children),
            possible_vfs: function.sriov.as_ref().map_or(0, |sriov| sriov.total),
            virtual_functions,
            mdevs: function.mdevs.len(),
            children,
        }
    }
}

/// A measure of what a link carries now.
fn bandwidth(link: &Link) -> u32 {
    u32::from(link.speed) * u32::from(link.width)
}

/// Whether an uplink carries less than a device's link can. The device's link may be slow because the device is idle; its
/// width does not change with that.
fn is_less(uplink: &Link, own: &Link) -> bool {
    let most = u32::from(own.max_speed.max(own.speed)) * u32::from(own.width);
    bandwidth(uplink) < most
}

/// The physical function that a virtual one is shown in.
fn folded_into(inventory: &Inventory, function: &Function) -> Option<Address> {
    let physical = inventory.function(function.physical_function?)?;
    physical.physical_function.is_none().then_some(physical.address)
}

/// The nearest existing bridge above. Its own path must be shorter, so that the result is always a tree.
fn parent(inventory: &Inventory, function: &Function) -> Option<Address> {
    if function.path.len() > DEEPEST {
        return None;
    }
    let nearer = |bridge: &&Address| {
        inventory.function(**bridge).is_some_and(|bridge| {
            bridge.path.len() < function.path.len() && folded_into(inventory, bridge).is_none()
        })
    };
    function.path.iter().rev().find(nearer).copied()
}

fn part(function: &Function, above: Option<Part>, has_bridges: bool) -> Part {
    if function.kind() != Kind::Bridge {
        return Part::Device;
    }
    match function.detail.as_ref().and_then(|detail| detail.port_type) {
        Some(PortType::RootPort) => return Part::RootPort,
        Some(PortType::SwitchUpstream) => return Part::SwitchUpstream,
        Some(PortType::SwitchDownstream) => return Part::SwitchDownstream,
        Some(_) => return Part::Bridge,
        None => {}
    }
    // Without configuration space the shape decides: a switch is a bridge with bridges behind it.
    match above {
        None => Part::RootPort,
        Some(Part::SwitchUpstream) => Part::SwitchDownstream,
        Some(Part::RootPort | Part::SwitchDownstream) if has_bridges => Part::SwitchUpstream,
        Some(_) => Part::Bridge,
    }
}

fn is_clutter(function: &Function, children: &[TreeFunction]) -> bool {
    match function.kind() {
        Kind::Bridge => children.iter().all(|child| child.clutter),
        Kind::Other => {
            // An NVSwitch (0680) is a device. System peripherals (08xx), the rest of the bridges (06xx) and
            // "non-essential instrumentation" (13xx) are the host's wherever they are.
            let base = function.class.0 >> 16;
            let host = matches!(base, 0x06 | 0x08 | 0x13) || function.path.is_empty();
            host && function.class.prefix() != 0x0680
        }
        _ => false,
    }
}

/// The NUMA node of each root bus: that of the first function on or behind it that has one. All have the same, because
/// a device inherits the node of its bus (`set_dev_node` in drivers/pci/probe.c).
fn nodes_of_buses(inventory: &Inventory) -> HashMap<(u32, u8), u32> {
    let mut nodes = HashMap::new();
    let only = match inventory.numa_nodes.len() {
        1 => inventory.numa_nodes.keys().next().copied(),
        _ => None,
    };
    let mut unknown = HashSet::new();
    for function in inventory.functions.values() {
        let bus = root_bus(function);
        match function.numa_node {
            Some(node) => {
                nodes.entry(bus).or_insert(node);
            }
            None => {
                unknown.insert(bus);
            }
        }
    }
    for bus in unknown {
        if let Some(only) = only {
            nodes.entry(bus).or_insert(only);
        }
    }
    nodes
}

fn node(inventory: &Inventory, number: u32) -> TopologyNode {
    let known = inventory.numa_nodes.get(&number).cloned().unwrap_or_default();
    TopologyNode {
        node: Some(number),
        sockets: known.sockets,
        cpus: known.cpus,
        memory: known.memory,
        distances: known.distances,
        root_buses: Vec::new(),
    }
}
