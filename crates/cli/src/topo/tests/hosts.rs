//! Hosts to draw.

use std::fmt::Write as _;

use model::{Address, Class, Detail, Function, Group, Inventory, Link, NumaNode, VirtualFunctions};

/// One line of a host: address, ids, class, driver, group, node, speed and width now and at most, the bridge above, then
/// the name. `-` stands for none.
fn host(lines: &str) -> Inventory {
    let mut inventory = Inventory::default();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, ids, class, driver, group, node, now, most, above, name @ ..] = &words[..]
        else {
            panic!("{line}")
        };
        let (vendor, device) = ids.split_once(':').unwrap();
        let rate = |text: &str| {
            text.split_once('x')
                .map(|(speed, width)| (speed.parse().unwrap(), width.parse().unwrap()))
        };
        let link = rate(now).zip(rate(most)).map(|((speed, width), (max_speed, max_width))| Link {
            speed,
            width,
            max_speed,
            max_width,
        });
        let bridge: Option<Address> = above.parse().ok();
        let path = bridge.map_or_else(Vec::new, |bridge| {
            let mut path = inventory.functions[&bridge].path.clone();
            path.push(bridge);
            path
        });
        let function = Function {
            vendor: vendor.parse().unwrap(),
            device: device.parse().unwrap(),
            class: class.parse::<Class>().unwrap(),
            driver: (*driver != "-").then(|| (*driver).into()),
            iommu_group: group.parse().ok(),
            numa_node: node.parse().ok(),
            path,
            vendor_name: name.first().map(|name| (*name).into()),
            device_name: name.get(1..).map(|name| name.join(" ")),
            detail: Some(Box::new(Detail { link, ..Detail::default() })),
            ..Function::unknown(address.parse().unwrap())
        };
        if let Some(group) = function.iommu_group {
            let group = inventory.groups.entry(group).or_insert_with(Group::default);
            group.members.push(function.address);
        }
        inventory.functions.insert(function.address, function);
    }
    inventory.vfio = sim::workstation().vfio;
    inventory
}

fn node(cpus: &str, socket: u32, gib: u64, distances: &[u32]) -> NumaNode {
    let (cpus, distances) = (cpus.to_owned(), distances.to_vec());
    NumaNode { cpus, sockets: vec![socket], memory: gib << 30, distances }
}

pub fn workstation() -> Inventory {
    let mut inventory = host(
        "0000:00:01.0 8086:1901 060400 pcieport 1 - 160x16 160x16 - Intel PCIe Controller (x16)
         0000:00:02.0 8086:3e98 030000 i915 2 - - - - Intel UHD Graphics 630
         0000:00:14.0 8086:a36d 0c0330 xhci_hcd 3 - - - - Intel USB 3.1 xHCI Host Controller
         0000:00:1b.0 8086:a340 060400 pcieport 4 - 80x4 80x4 - Intel PCI Express Root Port #17
         0000:00:1c.0 8086:a338 060400 pcieport 5 - 25x1 80x1 - Intel PCI Express Root Port #1
         0000:00:1f.0 8086:a305 060100 - 6 - - - - Intel LPC Controller
         0000:00:1f.3 8086:a348 040300 snd_hda_intel 6 - - - - Intel Cannon Lake PCH cAVS
         0000:00:1f.4 8086:a323 0c0500 i801_smbus 6 - - - - Intel SMBus Controller
         0000:01:00.0 10de:2204 030000 nvidia 1 - 80x16 160x16 0000:00:01.0 NVIDIA GA102 [GeForce RTX 3090]
         0000:01:00.1 10de:1aef 040300 snd_hda_intel 1 - - - 0000:00:01.0 NVIDIA GA102 High Definition Audio Controller
         0000:02:00.0 144d:a808 010802 nvme 7 - 80x4 80x4 0000:00:1b.0 Samsung NVMe SSD Controller SM981/PM981/PM983
         0000:03:00.0 8086:1533 020000 igb 8 - 25x1 25x1 0000:00:1c.0 Intel I210 Gigabit Network Connection",
    );
    inventory.numa_nodes.insert(0, node("0-15", 0, 64, &[10]));
    inventory
}

/// Two processors, each with a switch that has two GPUs and a NIC with virtual functions behind it.
#[allow(clippy::too_many_lines, reason = "a list of what the host has")]
pub fn server() -> Inventory {
    let mut lines = String::new();
    for node in 0..2u32 {
        let bus = 0x20 + node * 0x80;
        let (up, down, group) = (bus + 1, bus + 2, node * 100);
        let at = |bus: u32, device: u32| format!("0000:{bus:02x}:{device:02x}.0");
        let root = at(bus, 1);
        let _ = writeln!(
            lines,
            "{root} 8086:347a 060400 pcieport {} {node} 160x16 160x16 - Intel Ice Lake PCIe Root Port",
            group + 1
        );
        let _ = writeln!(
            lines,
            "{} 10b5:8725 060400 pcieport {} {node} 160x16 160x16 {root} PLX PEX 8725 PCI Express Switch",
            at(up, 0),
            group + 2
        );
        for port in 0..3 {
            let slot = at(down, port);
            let _ = writeln!(
                lines,
                "{slot} 10b5:8725 060400 pcieport {} {node} 160x16 160x16 {} PLX PEX 8725 PCI Express Switch",
                group + 3 + port,
                at(up, 0)
            );
            let device = at(bus + 3 + port, 0);
            let group = group + 10 + port;
            let _ = if port < 2 {
                writeln!(
                    lines,
                    "{device} 10de:20b0 030200 nvidia {group} {node} 160x16 160x16 {slot} NVIDIA GA100 [A100 SXM4 40GB]"
                )
            } else {
                writeln!(
                    lines,
                    "{device} 15b3:101d 020000 mlx5_core {group} {node} 160x8 160x16 {slot} Mellanox MT2892 Family [ConnectX-6 Dx]"
                )
            };
        }
        let root = at(bus + 0x10, 3);
        let _ = writeln!(
            lines,
            "{root} 8086:347b 060400 pcieport {} {node} 160x4 160x4 - Intel Ice Lake PCIe Root Port",
            group + 20
        );
        let _ = writeln!(
            lines,
            "{} 144d:a824 010802 {} {} {node} 160x4 160x4 {root} Samsung NVMe SSD Controller PM173X",
            at(bus + 0x11, 0),
            if node == 0 { "nvme" } else { "vfio-pci" },
            group + 21
        );
    }
    let mut inventory = host(&lines);
    inventory.numa_nodes.insert(0, node("0-31,64-95", 0, 512, &[10, 21]));
    inventory.numa_nodes.insert(1, node("32-63,96-127", 1, 512, &[21, 10]));
    let physical: Address = "0000:25:00.0".parse().unwrap();
    let pf = inventory.functions[&physical].clone();
    let present: Vec<Address> = (1..8).map(|f| Address::new(0, 0x25, 0, f).unwrap()).collect();
    for (number, address) in (300..).zip(&present) {
        let vf = Function {
            address: *address,
            physical_function: Some(physical),
            iommu_group: Some(number),
            driver: None,
            ..pf.clone()
        };
        inventory.functions.insert(*address, vf);
    }
    let sriov = VirtualFunctions { total: 8, present, autoprobe: Some(false) };
    inventory.functions.get_mut(&physical).unwrap().sriov = Some(sriov);
    inventory
}

/// Eight GPUs, each with a NIC at one switch; six NVSwitches; eight drives.
#[allow(clippy::too_many_lines, reason = "a list of what the host has")]
pub fn hgx() -> Inventory {
    let mut lines = String::new();
    let mut group = 0;
    let mut next = || {
        group += 1;
        group
    };
    for pair in 0..8u32 {
        let node = pair / 4;
        let bus = 0x10 + pair * 0x18;
        let root = format!("0000:{bus:02x}:01.0");
        let _ = writeln!(
            lines,
            "{root} 8086:352a 060400 pcieport {} {node} 320x16 320x16 - Intel Sapphire Rapids PCIe Root Port",
            next()
        );
        let up = format!("0000:{:02x}:00.0", bus + 1);
        let _ = writeln!(
            lines,
            "{up} 1000:c030 060400 pcieport {} {node} 320x16 320x16 {root} Broadcom PEX890xx PCIe Gen 5 Switch",
            next()
        );
        for port in 0..3u32 {
            let down = format!("0000:{:02x}:{port:02x}.0", bus + 2);
            let _ = writeln!(
                lines,
                "{down} 1000:c030 060400 pcieport {} {node} 320x16 320x16 {up} Broadcom PEX890xx PCIe Gen 5 Switch",
                next()
            );
            let device = format!("0000:{:02x}:00.0", bus + 3 + port);
            let _ = match port {
                0 => writeln!(
                    lines,
                    "{device} 10de:2330 030200 nvidia {} {node} 320x16 320x16 {down} NVIDIA GH100 [H100 SXM5 80GB]",
                    next()
                ),
                1 => writeln!(
                    lines,
                    "{device} 15b3:1021 020700 mlx5_core {} {node} 320x16 320x16 {down} Mellanox MT2910 Family [ConnectX-7]",
                    next()
                ),
                _ => writeln!(
                    lines,
                    "{device} 144d:a824 010802 nvme {} {node} 160x4 160x4 {down} Samsung NVMe SSD Controller PM173X",
                    next()
                ),
            };
        }
    }
    let root = "0000:e0:01.0";
    let _ = writeln!(
        lines,
        "{root} 8086:352a 060400 pcieport {} 1 160x8 160x8 - Intel Sapphire Rapids PCIe Root Port",
        next()
    );
    let _ = writeln!(
        lines,
        "0000:e1:00.0 1000:c030 060400 pcieport {} 1 160x8 160x8 {root} Broadcom PEX890xx PCIe Gen 5 Switch",
        next()
    );
    let shared = next();
    for switch in 0..6u32 {
        let down = format!("0000:e2:{switch:02x}.0");
        let _ = writeln!(
            lines,
            "{down} 1000:c030 060400 pcieport {shared} 1 160x2 160x2 0000:e1:00.0 Broadcom PEX890xx PCIe Gen 5 Switch"
        );
        let _ = writeln!(
            lines,
            "0000:{:02x}:00.0 10de:22a3 068000 nvidia-nvswitch {shared} 1 160x2 160x2 {down} NVIDIA GH100 [H100 NVSwitch]",
            0xe3 + switch
        );
    }
    let mut inventory = host(&lines);
    inventory.numa_nodes.insert(0, node("0-55,112-167", 0, 1024, &[10, 21]));
    inventory.numa_nodes.insert(1, node("56-111,168-223", 1, 1024, &[21, 10]));
    inventory
}
