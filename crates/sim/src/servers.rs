//! Inventories of servers with many devices, as their vendors lay them out: for choosing and drawing.
//!
//! Addresses and groups are made up; the shape is from the vendors' documents: which devices share a switch, a root port and a
//! processor.

use model::{Address, Function, Inventory};

use crate::Card;

/// NVIDIA V100, A100, H100 and B200, L40S; AMD MI300X.
const V100: (u16, u16) = (0x10de, 0x1db1);
const A100: (u16, u16) = (0x10de, 0x20b0);
const H100: (u16, u16) = (0x10de, 0x2330);
const B200: (u16, u16) = (0x10de, 0x2901);
const L40S: (u16, u16) = (0x10de, 0x26b9);
const MI300X: (u16, u16) = (0x1002, 0x74a1);
/// A network adapter for GPUs (ConnectX), and one for the host.
const FABRIC_NIC: (u16, u16) = (0x15b3, 0x1021);
const HOST_NIC: (u16, u16) = (0x8086, 0x1563);
/// NVSwitches of A100 and H100.
const NVSWITCH: (u16, u16) = (0x10de, 0x1af1);
const NVSWITCH3: (u16, u16) = (0x10de, 0x22a3);
/// The display of a management controller.
const BMC: (u16, u16) = (0x1a03, 0x2000);

const DISPLAY: u32 = 0x03_0000;
const GPU: u32 = 0x03_0200;
const ACCELERATOR: u32 = 0x12_0000;
const NIC: u32 = 0x02_0000;
const FABRIC: u32 = 0x06_8000;
const BRIDGE: u32 = 0x06_0400;

/// A server in the making.
struct Server {
    inventory: Inventory,
    group: u32,
    bus: u8,
}

/// A place for devices: below these bridges, on this NUMA node.
#[derive(Clone)]
struct Port {
    path: Vec<Address>,
    domain: u32,
    node: u32,
}

impl Server {
    fn new() -> Self {
        Self { inventory: Card::inventory(&[]), group: 0, bus: 0 }
    }

    fn next(&mut self, domain: u32) -> Option<Address> {
        self.bus = self.bus.checked_add(1)?;
        Address::new(domain, self.bus, 0, 0)
    }

    fn add(&mut self, ids: (u16, u16), class: u32, port: &Port) {
        let Some(address) = self.next(port.domain) else { return };
        self.put(address, ids, class, port);
    }

    fn put(&mut self, address: Address, ids: (u16, u16), class: u32, port: &Port) {
        self.group += 1;
        let card = Card::new(address, ids, class, self.group, None).below(&port.path);
        let mut made = Card::inventory(&[card]);
        self.inventory.vfio = made.vfio;
        self.inventory.groups.append(&mut made.groups);
        for (address, function) in made.functions {
            let placed = Function { numa_node: Some(port.node), ..function };
            self.inventory.functions.insert(address, placed);
        }
    }

    /// A root port of its own root bus.
    fn root(&mut self, node: u32) -> Port {
        let domain = self.bus.into();
        let mut port = Port { path: Vec::new(), domain, node };
        if let Some(address) = Address::new(domain, 0, 1, 0) {
            self.put(address, (0x8086, 0x2030), BRIDGE, &port);
            port.path.push(address);
        }
        port
    }

    /// A switch below a port, with this many ports.
    fn switch(&mut self, below: &Port, ports: usize) -> Vec<Port> {
        let mut upstream = below.clone();
        let Some(address) = self.next(below.domain) else { return Vec::new() };
        self.put(address, (0x10b5, 0x9765), BRIDGE, below);
        upstream.path.push(address);
        let mut made = Vec::new();
        for _ in 0..ports {
            let Some(address) = self.next(below.domain) else { break };
            self.put(address, (0x10b5, 0x9765), BRIDGE, &upstream);
            let mut port = upstream.clone();
            port.path.push(address);
            made.push(port);
        }
        made
    }

    /// Devices at one switch.
    fn at_switch(&mut self, below: &Port, devices: &[((u16, u16), u32)]) {
        for (port, (ids, class)) in self.switch(below, devices.len()).iter().zip(devices) {
            self.add(*ids, *class, port);
        }
    }

    /// The display of the management controller, which the firmware uses for its console.
    fn bmc(&mut self) {
        let root = self.root(0);
        let bus = self.bus;
        self.add(BMC, DISPLAY, &root);
        let display = self
            .inventory
            .functions
            .values_mut()
            .find(|function| function.address.bus() > bus && function.vendor.0 == BMC.0);
        if let Some(display) = display {
            display.boot_vga = true;
        }
    }
}

/// NVIDIA DGX-1 with V100: four switches, each with two GPUs and an adapter, two on each processor.
#[must_use]
pub fn dgx1() -> Inventory {
    let mut server = Server::new();
    for switch in 0..4 {
        let root = server.root(switch / 2);
        server.at_switch(&root, &[(V100, GPU), (V100, GPU), (FABRIC_NIC, NIC)]);
    }
    server.bmc();
    server.inventory
}

/// NVIDIA DGX A100: four root ports with two switches each below one another's, two GPUs and two adapters at each pair; eight
/// NUMA nodes, of which four have GPUs; six NVSwitches.
#[must_use]
pub fn dgx_a100() -> Inventory {
    let mut server = Server::new();
    for node in [3, 1, 7, 5] {
        let root = server.root(node);
        let ports = server.switch(&root, 2);
        for port in &ports {
            server.at_switch(port, &[(A100, GPU), (FABRIC_NIC, NIC)]);
        }
    }
    let root = server.root(5);
    server.at_switch(&root, &[(NVSWITCH, FABRIC); 6]);
    server.bmc();
    server.inventory
}

/// NVIDIA HGX H100: eight GPUs, each at a switch with an adapter; four NVSwitches.
#[must_use]
pub fn hgx_h100() -> Inventory {
    hgx(H100, 4)
}

/// NVIDIA HGX B200: as H100, with two NVSwitches.
#[must_use]
pub fn hgx_b200() -> Inventory {
    hgx(B200, 2)
}

fn hgx(gpu: (u16, u16), switches: usize) -> Inventory {
    let mut server = Server::new();
    for number in 0..8 {
        let root = server.root(number / 4);
        server.at_switch(&root, &[(gpu, GPU), (FABRIC_NIC, NIC)]);
    }
    let root = server.root(1);
    server.at_switch(&root, &vec![(NVSWITCH3, FABRIC); switches]);
    server.bmc();
    server.inventory
}

/// A server with eight AMD MI300X, each at a switch with an adapter.
#[must_use]
pub fn mi300x() -> Inventory {
    let mut server = Server::new();
    for number in 0..8 {
        let root = server.root(number / 4);
        server.at_switch(&root, &[(MI300X, ACCELERATOR), (FABRIC_NIC, NIC)]);
    }
    server.bmc();
    server.inventory
}

/// A server with eight PCIe cards, two at each root port's switch, and ten network adapters, without NVLink.
#[must_use]
pub fn pcie_box() -> Inventory {
    let mut server = Server::new();
    for number in 0..4 {
        let root = server.root(number / 2);
        server.at_switch(
            &root,
            &[(L40S, DISPLAY), (L40S, DISPLAY), (FABRIC_NIC, NIC), (FABRIC_NIC, NIC)],
        );
    }
    for node in 0..2 {
        let root = server.root(node);
        server.add(HOST_NIC, NIC, &root);
    }
    server.bmc();
    server.inventory
}

/// A host with this many devices, three GPUs and an adapter at each switch, sixteen switches on each NUMA node: for measuring.
#[must_use]
pub fn rows(devices: usize) -> Inventory {
    let mut server = Server::new();
    let mut node = 0;
    for switch in 0..devices.div_ceil(4) {
        if switch % 16 == 15 {
            node += 1;
        }
        // A domain has 256 buses.
        let domain = u32::try_from(switch).unwrap_or(0);
        server.bus = 0;
        let port = Port { path: Vec::new(), domain, node };
        let mut root = port.clone();
        if let Some(address) = Address::new(domain, 0, 1, 0) {
            server.put(address, (0x8086, 0x2030), BRIDGE, &port);
            root.path.push(address);
        }
        server.at_switch(
            &root,
            &[(L40S, DISPLAY), (L40S, DISPLAY), (L40S, DISPLAY), (FABRIC_NIC, NIC)],
        );
    }
    server.inventory
}
