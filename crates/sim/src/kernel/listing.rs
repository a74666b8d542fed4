//! The current inventory.

use model::{Address, Detail, Function, Inventory, Link};

use super::Kernel;

impl Kernel {
    /// The inventory as a listing.
    pub(crate) fn listing(&self) -> Inventory {
        let mut inventory = self.known.clone();
        inventory.functions.retain(|address, _| self.functions.contains_key(address));
        for function in inventory.functions.values_mut() {
            self.show(function);
        }
        for group in inventory.groups.values_mut() {
            group.members.retain(|address| self.functions.contains_key(address));
        }
        inventory
    }

    fn show(&self, function: &mut Function) {
        let address = function.address;
        function.driver = self.functions.get(&address).and_then(|state| state.driver.clone());
        if let Some(sriov) = self.listed_vfs(address) {
            function.sriov = Some(sriov);
        }
        function.mdevs.extend(self.listed_mdevs(address));
        let group = function.iommu_group.filter(|_| self.is_offered(address));
        if let Some(group) = group.filter(|group| self.nodes.contains_key(group)) {
            function.nodes.vfio_group = Some(format!("/dev/vfio/{group}"));
        }
        if self.device_nodes.contains_key(&address) {
            let number = u32::from(address.bus()) << 8
                | u32::from(address.device()) << 3
                | u32::from(address.function());
            function.nodes.vfio_device = Some(format!("/dev/vfio/devices/vfio{number}"));
        }
    }

    /// The modes of a GPU on NVIDIA's driver.
    fn modes_of(&self, address: Address) -> model::GpuModes {
        let driver = self.functions.get(&address).and_then(|state| state.driver.as_deref());
        let known = self.modes.get(&address).filter(|_| driver == Some("nvidia"));
        known.copied().unwrap_or_default()
    }

    /// The detail of a function.
    pub(crate) fn detail(&self, address: Address) -> Detail {
        let link = self.links.get(&address).map(|link| Link {
            speed: link.speed,
            width: link.width,
            max_speed: super::LINK.speed,
            max_width: super::LINK.width,
        });
        let state = self.functions.get(&address);
        Detail {
            serial: self.serials.get(&address).cloned(),
            driver_override: state.and_then(|state| state.driver_override.clone()),
            candidate_drivers: self.native(address).into_iter().collect(),
            link: link.filter(|_| !self.silent.contains(&address)),
            vf_count: self.vf_count(address),
            mdev_types: self.mdev_types(address),
            vgpu: self.listed_vgpus(address),
            modes: self.modes_of(address),
            ..Detail::default()
        }
    }
}
