//! Settings of virtual functions at their physical function (`IFLA_VF_*`, `do_setvfinfo` in net/core/rtnetlink.c and
//! the drivers' `ndo_set_vf_*`).

use model::{Address, Mac, VfSettings};

use super::{EINVAL, ENODEV, Errno, Kernel};

/// The default settings of a virtual function.
pub(super) fn default_settings() -> VfSettings {
    VfSettings {
        mac: Some(Mac([0; 6])),
        vlan: Some(0),
        qos: Some(0),
        trust: Some(false),
        spoof_check: Some(true),
        min_rate: Some(0),
        max_rate: Some(0),
    }
}

impl Kernel {
    /// The current settings of a virtual function.
    pub(crate) fn vf_settings(&self, parent: Address, index: u16) -> Result<VfSettings, Errno> {
        let physical = self.hardware.physical.get(&parent).ok_or(ENODEV)?;
        // A function without its driver has no interface.
        if !physical.ethernet || !self.is_native(parent) {
            return Err(ENODEV);
        }
        let address = self.virtual_functions(parent).nth(index.into()).ok_or(ENODEV)?;
        self.state(address)?.settings.clone().ok_or(ENODEV)
    }

    pub(super) fn tell(
        &mut self,
        address: Address,
        parent: Address,
        index: u16,
        to: &VfSettings,
    ) -> Result<(), Errno> {
        let mut now = self.vf_settings(parent, index)?;
        if self.virtual_functions(parent).nth(index.into()) != Some(address) {
            return Err(ENODEV);
        }
        let multicast = to.mac.is_some_and(|mac| mac.0[0] & 1 == 1);
        if multicast || to.vlan.is_some_and(|vlan| vlan > 4094) || to.qos.is_some_and(|q| q > 7) {
            return Err(EINVAL);
        }
        now.mac = to.mac.or(now.mac);
        now.vlan = to.vlan.or(now.vlan);
        now.qos = to.qos.or(now.qos);
        now.trust = to.trust.or(now.trust);
        now.spoof_check = to.spoof_check.or(now.spoof_check);
        now.min_rate = to.min_rate.or(now.min_rate);
        now.max_rate = to.max_rate.or(now.max_rate);
        let (least, most) = (now.min_rate.unwrap_or_default(), now.max_rate.unwrap_or_default());
        if most != 0 && least > most {
            return Err(EINVAL);
        }
        self.change(address, |state| state.settings = Some(now))
    }
}
