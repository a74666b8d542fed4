//! Drivers: probing, binding, unbinding (drivers/base/bus.c, drivers/base/dd.c, drivers/pci/pci-driver.c).

use model::{Address, PowerControl, is_vfio};

use super::{EBUSY, EINVAL, EIO, ENODEV, Errno, Kernel};

/// NVIDIA's driver, which waits for users of a GPU.
const NVIDIA: &str = "nvidia";

impl Kernel {
    /// `drivers/X/unbind`: ENODEV unless bound to X. vfio-pci disables runtime suspend again; a device's partitions
    /// disappear with its driver.
    pub(super) fn unbind(&mut self, address: Address, driver: &str) -> Result<(), Errno> {
        if self.state(address)?.driver.as_deref() != Some(driver) {
            return Err(ENODEV);
        }
        let vfio = self.is_on_vfio(address);
        self.release_parts(address);
        self.change(address, |state| {
            state.driver = None;
            state.persistence = None;
            state.vgpu = None;
            if vfio {
                state.power = PowerControl::On;
            }
        })?;
        self.releasing.remove(&address);
        self.drop_nodes(address);
        self.drop_network(address);
        Ok(())
    }

    /// `drivers_probe`: the driver of the override if one is set and its module is loaded, else the native driver.
    pub(crate) fn probe(&mut self, address: Address) -> Result<(), Errno> {
        let state = self.state(address)?;
        if state.driver.is_some() {
            return Err(EBUSY);
        }
        if !self.may_probe(address) {
            return Ok(());
        }
        let driver = state.driver_override.clone().or_else(|| self.native(address));
        let Some(driver) = driver else { return Ok(()) };
        let vfio = is_vfio(&driver, "vfio-pci");
        if vfio && !self.modules.contains(&driver.replace('-', "_")) {
            return Ok(());
        }
        self.bind(address, driver)
    }

    /// A driver's probe.
    fn bind(&mut self, address: Address, driver: String) -> Result<(), Errno> {
        let vfio = is_vfio(&driver, "vfio-pci");
        let group = self.group_of(address);
        // vfio_group_find_or_alloc: no group.
        if vfio && group.is_none() {
            return Err(EINVAL);
        }
        // iommu_device_use_default_domain: the group is VFIO's.
        if !vfio && group.is_some_and(|group| self.users.contains_key(&group)) {
            return Err(EBUSY);
        }
        // vfio-pci binds to a function that does not respond; a native driver does not.
        if !vfio && self.silent.contains(&address) {
            return Err(EIO);
        }
        let power = if vfio { PowerControl::Auto } else { self.state(address)?.power };
        self.take(address, driver, power);
        Ok(())
    }

    /// A driver has the function.
    pub(super) fn take(&mut self, address: Address, driver: String, power: PowerControl) {
        let nvidia = driver == NVIDIA && !self.is_virtual(address);
        let vgpus = self.physical_of(address).is_some_and(|(_, p)| p.vgpus.is_some());
        let native = self.native(address).as_ref() == Some(&driver);
        if let Some(state) = self.functions.get_mut(&address) {
            state.driver = Some(driver);
            state.power = power;
            state.persistence = nvidia.then_some(false);
            state.vgpu = (vgpus && native).then_some(0);
        }
        self.make_nodes(address);
    }

    /// Probes; if that fails, binds by the driver's name, which works only for ids of that driver. A virtual function
    /// without autoprobe gets a temporary `driver_override`, as in the host's step.
    pub(super) fn give_back(&mut self, address: Address, driver: &str) -> Result<(), Errno> {
        self.probe(address)?;
        if self.state(address)?.driver.is_some() {
            return Ok(());
        }
        if self.native(address).as_deref() != Some(driver) {
            return Err(ENODEV);
        }
        let reserved = self.state(address)?.driver_override.as_deref();
        if reserved.is_some_and(|reserved| reserved != driver) {
            return Err(ENODEV);
        }
        self.bind(address, driver.into())
    }

    /// `pci_device_can_probe`: without autoprobe at its physical function, a virtual function binds only with an
    /// override.
    fn may_probe(&self, address: Address) -> bool {
        let Some((parent, _)) = self.physical_of(address) else { return true };
        let autoprobe = self.functions.get(&parent).and_then(|state| state.autoprobe);
        let reserved = self.functions.get(&address).is_some_and(|s| s.driver_override.is_some());
        autoprobe != Some(false) || reserved
    }

    /// What depends on a function's driver: virtual functions and mediated devices.
    pub(super) fn release_parts(&mut self, address: Address) {
        self.drop_vfs(address);
        self.drop_mdevs(address);
    }

    /// Whether an unbind would block uninterruptibly: on a machine that has the function or a partition open, or on
    /// users of an NVIDIA GPU.
    pub(super) fn unbind_blocks(&self, address: Address) -> bool {
        self.is_open(address)
            || self.virtual_functions(address).any(|function| self.is_open(function))
            || self.children(address).any(|(uuid, _)| self.removal_blocks(*uuid))
            || self.is_held_by_nvidia(address)
            || self.is_drawn_on(address)
    }

    /// Whether NVIDIA's driver reports a GPU as in use (`unbindLock`).
    pub(super) fn is_held_by_nvidia(&self, address: Address) -> bool {
        self.state(address).is_ok_and(|state| state.driver.as_deref() == Some(NVIDIA))
            && self.holders_of(&[address]).iter().any(|holder| holder.by.contains("nvidia"))
    }
}
