//! Small inventories to simulate.

use model::{Address, Class, Function, Group, Id, Inventory, VfioSupport};

/// One function of a simulated host.
#[derive(Clone, Debug)]
pub struct Card {
    address: Address,
    ids: (u16, u16),
    class: u32,
    group: Option<u32>,
    driver: Option<String>,
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
        Self { address, ids, class, group: Some(group), driver: driver.map(Into::into) }
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
            reset_methods: vec!["flr".into()],
            resettable: true,
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
        };
        inventory
    }
}

/// A workstation: a GPU with its audio function in one group with its root port, a second GPU whose audio function is
/// in a group of its own, a NIC, and an NVMe drive without a driver.
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
