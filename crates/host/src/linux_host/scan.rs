//! A Linux host for the doctor and for drawings.

use model::doctor::{Facts, Platform};
use model::{Address, Host, HostError, Inventory, OwnState, Scan};

use super::LinuxHost;
use crate::platform;

impl LinuxHost {
    /// The facts that show whether the firmware's framebuffer is on a device, and how to disable it on this host.
    #[must_use]
    pub fn console(&self) -> Platform {
        platform::console(self.root())
    }
}

impl Scan for LinuxHost {
    fn detail(&self) -> Result<Inventory, HostError> {
        Self::detail(self, None)
    }

    fn platform(&self) -> Platform {
        Self::platform(self)
    }

    fn facts(&self) -> Result<Facts, HostError> {
        let inventory = Self::detail(self, None)?;
        let addresses: Vec<Address> = inventory.functions.keys().copied().collect();
        let mut platform = self.platform();
        // Without holders the other checks still work.
        let holders = self.holders(&addresses).unwrap_or_else(|error| {
            platform.unseen.push(format!("users of devices ({error})"));
            Vec::new()
        });
        Ok(Facts { inventory, holders, platform, own: OwnState::default() })
    }
}
