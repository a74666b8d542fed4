//! Example hosts.

use model::{
    Address, Class, FabricSet, FabricSets, Function, Group, Id, Inventory, Kind, VfioSupport,
    VgpuType,
};

use crate::hardware::{Desktop, Hardware, MdevKind, MdevParent, PhysicalFunction, VgpuBoard};

/// One function of a simulated host.
#[derive(Clone, Debug)]
pub struct Card {
    address: Address,
    ids: (u16, u16),
    class: u32,
    group: Option<u32>,
    driver: Option<String>,
    path: Vec<Address>,
    resets: Vec<String>,
}

impl Card {
    /// A function with its ids, class and group, bound to `driver`.
    #[must_use]
    pub fn new(
        address: Address,
        ids: (u16, u16),
        class: u32,
        group: u32,
        driver: Option<&str>,
    ) -> Self {
        let (group, driver) = (Some(group), driver.map(Into::into));
        let resets = vec!["flr".into()];
        Self { address, ids, class, group, driver, path: Vec::new(), resets }
    }

    /// The same, behind these bridges, from the root down.
    #[must_use]
    pub fn below(mut self, path: &[Address]) -> Self {
        self.path = path.to_vec();
        self
    }

    /// The same, with these reset methods.
    #[must_use]
    pub fn reset_by(mut self, methods: &[&str]) -> Self {
        self.resets = methods.iter().map(ToString::to_string).collect();
        self
    }

    /// The same, not covered by the IOMMU.
    #[must_use]
    pub fn without_iommu(mut self) -> Self {
        self.group = None;
        self
    }

    fn function(&self) -> Function {
        Function {
            vendor: Id(self.ids.0),
            device: Id(self.ids.1),
            class: Class(self.class),
            driver: self.driver.clone(),
            iommu_group: self.group,
            path: self.path.clone(),
            resettable: !self.resets.is_empty(),
            reset_methods: self.resets.clone(),
            ..Function::unknown(self.address)
        }
    }

    /// The inventory of a host with these functions, and VFIO.
    #[must_use]
    pub fn inventory(cards: &[Self]) -> Inventory {
        let mut inventory = Inventory::default();
        for card in cards {
            if let Some(group) = card.group {
                let group = inventory.groups.entry(group).or_insert_with(|| Group {
                    members: Vec::new(),
                    domain_type: Some("DMA".into()),
                    ..Group::default()
                });
                group.members.push(card.address);
            }
            inventory.functions.insert(card.address, card.function());
        }
        inventory.vfio = VfioSupport {
            iommu: !inventory.groups.is_empty(),
            vfio_pci: true,
            type1: true,
            iommufd: false,
            unsafe_noiommu: false,
            virtual_machine: false,
            xen_dom0: false,
            unmapped_interrupts: false,
        };
        inventory
    }
}

/// A workstation: a GPU with its audio function in one group with its root port, a second GPU whose audio function has
/// its own group, a NIC, and an NVMe drive without a driver.
#[must_use]
pub fn workstation() -> Inventory {
    let at = |bus, function| Address::new(0, bus, 0, function);
    let cards = [
        (Address::new(0, 0, 1, 0), (0x8086, 0x1901), 0x06_0400, 1, Some("pcieport")),
        (at(1, 0), (0x10de, 0x2204), 0x03_0000, 1, Some("nvidia")),
        (at(1, 1), (0x10de, 0x1aef), 0x04_0300, 1, Some("snd_hda_intel")),
        (at(2, 0), (0x1002, 0x73bf), 0x03_0000, 2, Some("amdgpu")),
        (at(2, 1), (0x1002, 0xab28), 0x04_0300, 3, Some("snd_hda_intel")),
        (at(3, 0), (0x8086, 0x10d3), 0x02_0000, 4, Some("e1000e")),
        (at(4, 0), (0x1b36, 0x0010), 0x01_0802, 5, None),
    ];
    let cards: Vec<Card> = cards
        .into_iter()
        .filter_map(|(address, ids, class, group, driver)| {
            Some(Card::new(address?, ids, class, group, driver))
        })
        .collect();
    Card::inventory(&cards)
}

/// The eight GPUs of [`gpus`] on a board with NVSwitches: the sets of their Fabric Manager are all of them (0), those of each switch
/// (1, 2), four pairs (3 to 6) of GPUs at different ports, and each alone (7 to 14).
#[must_use]
pub fn board() -> Hardware {
    let mut hardware = gpus();
    let functions = hardware.inventory.functions.values();
    let all: Vec<Address> = functions
        .filter(|one| one.kind() == Kind::Gpu || one.kind() == Kind::Accelerator)
        .map(|one| one.address)
        .collect();
    let (left, right) = all.split_at(all.len() / 2);
    let mut groups: Vec<Vec<Address>> = vec![all.clone(), left.into(), right.into()];
    for half in [left, right] {
        let (one, other) = half.split_at(half.len() / 2);
        groups.extend(one.iter().zip(other).map(|(one, other)| vec![*one, *other]));
    }
    groups.extend(all.iter().map(|gpu| vec![*gpu]));
    let set = |(id, gpus): (u32, Vec<Address>)| FabricSet {
        id,
        is_active: false,
        gpus: gpus.into_iter().collect(),
    };
    let sets = (0..).zip(groups).map(set).collect();
    hardware.fabric = Some(FabricSets { sets, can_switch: true });
    hardware
}

/// The same workstation with a desktop on its first GPU: `gdm.service` and a session, a remote-desktop server on the same
/// card, a console, a framebuffer of the firmware, and NVIDIA's modules.
#[must_use]
pub fn desktop() -> Hardware {
    let mut hardware = Hardware::from(workstation());
    let (manager, server) = ("gdm.service".to_owned(), "xrdp.service".to_owned());
    hardware.units = [(manager.clone(), true), (server.clone(), true)].into();
    hardware.desktop = Address::new(0, 1, 0, 0).map(|card| Desktop {
        card,
        manager,
        server: Some(server),
        consoles: vec![1],
        framebuffer: Some(("simple-framebuffer.0".into(), "simple-framebuffer".into())),
        modules: ["nvidia_drm", "nvidia_modeset", "nvidia_uvm"].map(Into::into).into(),
    });
    hardware
}

/// The hardware of these cards, each device with a serial number, and the nodes of iommufd.
fn hardware(cards: &[Card]) -> Hardware {
    let mut hardware = Hardware::from(Card::inventory(cards));
    hardware.inventory.vfio.iommufd = true;
    let devices = hardware.inventory.functions.values();
    hardware.serials = devices
        .filter(|function| function.kind() != Kind::Bridge)
        .map(|function| {
            let address = function.address;
            let serial =
                format!("00-00-00-ff-fe-00-{:02x}-{:02x}", address.bus(), address.device());
            (address, serial)
        })
        .collect();
    hardware
}

/// A server with devices that can be split: a NIC with 8 virtual functions (`0000:01:00.0`, configurable by netlink),
/// an NVMe drive with 4 (`0000:02:00.0`), a GPU with mediated devices (`0000:03:00.0`), a GPU with 16 virtual functions
/// that can become vGPUs (`0000:04:00.0`), and a GPU with its audio function that nvidia-persistenced keeps initialized
/// (`0000:05:00.0`). No virtual functions exist yet.
#[must_use]
pub fn server() -> Hardware {
    let cards = [
        (1, 0, (0x8086, 0x1592), 0x02_0000, Some("ice")),
        (2, 0, (0x144d, 0xa824), 0x01_0802, Some("nvme")),
        (3, 0, (0x10de, 0x20f1), 0x03_0200, Some("nvidia")),
        (4, 0, (0x10de, 0x26b9), 0x03_0200, Some("nvidia")),
        (5, 0, (0x10de, 0x2204), 0x03_0000, Some("nvidia")),
        (5, 1, (0x10de, 0x1aef), 0x04_0300, Some("snd_hda_intel")),
    ];
    let cards: Vec<Card> = cards
        .into_iter()
        .filter_map(|(bus, function, ids, class, driver)| {
            let address = Address::new(0, bus, 0, function)?;
            Some(Card::new(address, ids, class, bus.into(), driver))
        })
        .collect();
    let mut hardware = hardware(&cards);
    let at = |bus| Address::new(0, bus, 0, 0);
    let nic = PhysicalFunction { ethernet: true, ..PhysicalFunction::new(8, 0x1889, "iavf") };
    let nvme = PhysicalFunction::new(4, 0xa824, "nvme");
    let l40s =
        PhysicalFunction { vgpus: Some(l40s()), ..PhysicalFunction::new(16, 0x26b9, "nvidia") };
    hardware.physical.extend(
        [(at(1), nic), (at(2), nvme), (at(4), l40s)].into_iter().filter_map(|(a, p)| Some((a?, p))),
    );
    hardware.parents.extend(at(3).map(|address| (address, a100())));
    hardware.persistent.extend(at(5));
    hardware.units.insert("nvidia-persistenced.service".into(), true);
    hardware
}

/// A GPU with 40 units of memory for mediated devices.
fn a100() -> MdevParent {
    let kinds = [("nvidia-468", "GRID A100-4C", 4), ("nvidia-470", "GRID A100-10C", 10)];
    let kinds = kinds.into_iter().chain([("nvidia-472", "GRID A100-40C", 40)]);
    let kind =
        |(id, name, cost): (&str, &str, u32)| MdevKind { id: id.into(), name: name.into(), cost };
    MdevParent {
        capacity: 40,
        types: kinds.map(kind).collect(),
        uniform: false,
        attributes: vec!["nvidia/vgpu_params".into()],
    }
}

/// A GPU with 48 units of memory for vGPUs.
fn l40s() -> VgpuBoard {
    let kinds = [(1155, "NVIDIA L40S-4Q", 4), (1157, "NVIDIA L40S-8Q", 8)];
    let kinds = kinds.into_iter().chain([(1161, "NVIDIA L40S-48Q", 48)]);
    let kind = |(id, name, cost): (u32, &str, u32)| (VgpuType { id, name: name.into() }, cost);
    VgpuBoard { capacity: 48, types: kinds.map(kind).collect(), uniform: false, slow_release: 5 }
}

/// Eight GPUs behind two switches. Pairs share a port, support only bus reset, and so are reset together:
/// `0000:11:00.0` with `0000:11:01.0`, `12`, `21`, and `0000:22:00.0` with `0000:22:01.0`. Each has its own group.
#[must_use]
pub fn gpus() -> Hardware {
    let mut cards = Vec::new();
    let mut group = 0;
    let mut next = || {
        group += 1;
        group
    };
    let ids = (0x10de, 0x20b0);
    for switch in 0u8..2 {
        let first = 0x10 * (switch + 1);
        let place = |bus, device| Address::new(0, bus, device, 0);
        let (Some(root), Some(upstream)) = (place(0, switch + 1), place(first - 1, 0)) else {
            continue;
        };
        let port = |address, group| {
            Card::new(address, (0x1000, 0xc010), 0x06_0400, group, Some("pcieport")).reset_by(&[])
        };
        cards.push(port(root, next()));
        cards.push(port(upstream, next()).below(&[root]));
        for pair in 0..2 {
            let Some(down) = place(first, pair) else { continue };
            cards.push(port(down, next()).below(&[root, upstream]));
            for gpu in (0..2).filter_map(|device| place(first + 1 + pair, device)) {
                let card = Card::new(gpu, ids, 0x03_0200, next(), Some("nvidia"));
                cards.push(card.below(&[root, upstream, down]).reset_by(&["bus"]));
            }
        }
    }
    hardware(&cards)
}
