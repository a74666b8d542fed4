//! Virtual functions: their number, creation and removal (drivers/pci/iov.c).

use model::{Address, Class, Function, Group, PowerControl, VirtualFunctions};

use super::{EBUSY, ENOENT, ERANGE, Errno, Kernel};
use crate::hardware::PhysicalFunction;

impl Kernel {
    /// The physical function of a virtual one, and its properties.
    pub(crate) fn physical_of(&self, address: Address) -> Option<(Address, &PhysicalFunction)> {
        let parent = self.known.function(address)?.physical_function?;
        Some((parent, self.hardware.physical.get(&parent)?))
    }

    pub(super) fn is_virtual(&self, address: Address) -> bool {
        self.known.function(address).is_some_and(|f| f.physical_function.is_some())
    }

    /// The number of virtual functions (`sriov_numvfs`); `None` without SR-IOV.
    pub(crate) fn vf_count(&self, address: Address) -> Option<u16> {
        self.hardware.physical.get(&address)?;
        Some(self.vf_counts.get(&address).copied().unwrap_or_default())
    }

    /// The existing virtual functions, by index.
    pub(crate) fn virtual_functions(&self, own: Address) -> impl Iterator<Item = Address> {
        let count = self.vf_count(own).unwrap_or_default();
        let physical = self.hardware.physical.get(&own);
        (0..count).filter_map(move |index| physical?.address(own, index))
    }

    /// The value of `sriov_numvfs`, for a listing.
    pub(super) fn listed_vfs(&self, own: Address) -> Option<VirtualFunctions> {
        let total = self.hardware.physical.get(&own)?.total;
        let autoprobe = self.functions.get(&own).and_then(|state| state.autoprobe);
        Some(VirtualFunctions { total, present: self.virtual_functions(own).collect(), autoprobe })
    }

    /// A write to `sriov_numvfs` (`sriov_numvfs_store`): it needs the native driver, and the number changes only
    /// through 0.
    pub(crate) fn write_vf_count(&mut self, own: Address, count: u16) -> Result<(), Errno> {
        let now = self.vf_count(own).ok_or(ENOENT)?;
        let total = self.hardware.physical.get(&own).map_or(0, |physical| physical.total);
        self.state(own)?;
        if count > total {
            return Err(ERANGE);
        }
        if count == now {
            return Ok(());
        }
        if !self.is_native(own) {
            return Err(ENOENT);
        }
        if count == 0 {
            // NVIDIA's driver does not remove them while one is a vGPU.
            let live = |f: Address| self.state(f).is_ok_and(|s| s.vgpu.is_some_and(|id| id != 0));
            if self.virtual_functions(own).any(live) {
                return Err(EBUSY);
            }
            self.drop_vfs(own);
            return Ok(());
        }
        if now != 0 {
            return Err(EBUSY);
        }
        // A driver may enable fewer than requested; the kernel only warns.
        let count = count.saturating_sub(std::mem::take(&mut self.fewer));
        for index in 0..count {
            self.add_vf(own, index);
        }
        if count > 0 {
            self.vf_counts.insert(own, count);
        }
        Ok(())
    }

    /// Through 0, as the kernel requires. If fewer than requested appear, the old number is restored.
    pub(super) fn set_vf_count(&mut self, own: Address, from: u16, to: u16) -> Result<(), Errno> {
        if self.vf_count(own).is_some_and(|now| now != 0 && now != to) {
            self.write_vf_count(own, 0)?;
        }
        self.write_vf_count(own, to)?;
        if self.vf_count(own) != Some(to) {
            self.write_vf_count(own, 0)?;
            self.write_vf_count(own, from)?;
        }
        Ok(())
    }

    fn add_vf(&mut self, own: Address, index: u16) {
        let (Some(physical), Some(parent)) =
            (self.hardware.physical.get(&own), self.known.function(own))
        else {
            return;
        };
        let Some(address) = physical.address(own, index) else { return };
        let group = parent.iommu_group.map(|_| self.free_group());
        let class = if physical.vgpus.is_some() { Class(0x03_0200) } else { parent.class };
        let function = Function {
            vendor: parent.vendor,
            device: physical.device,
            class,
            driver: physical.driver.clone(),
            iommu_group: group,
            numa_node: parent.numa_node,
            path: parent.path.clone(),
            physical_function: Some(own),
            // The specification requires it for virtual functions.
            reset_methods: vec!["flr".into()],
            resettable: true,
            ..Function::unknown(address)
        };
        self.known.functions.insert(address, function);
        if let Some(group) = group {
            let domain_type = Some("DMA".into());
            self.known
                .groups
                .insert(group, Group { members: vec![address], domain_type, ..Group::default() });
        }
        self.appear(address, PowerControl::Auto);
        // If probing fails, it stays without a driver.
        let _ = self.probe(address);
    }

    pub(super) fn drop_vfs(&mut self, own: Address) {
        let gone: Vec<Address> = self.virtual_functions(own).collect();
        for address in gone {
            self.lose(address);
            let group = self.group_of(address);
            self.known.functions.remove(&address);
            if let Some(group) = group {
                self.known.groups.remove(&group);
                self.users.remove(&group);
            }
        }
        self.vf_counts.remove(&own);
    }

    /// Whether changing the number would block on a machine that has one of them open.
    pub(super) fn count_blocks(&self, own: Address) -> bool {
        self.virtual_functions(own)
            .any(|function| self.is_on_vfio(function) && self.is_open(function))
    }
}
