//! A Linux host as the doctor and those who draw it see it.

use model::doctor::{Facts, Platform};
use model::{Address, Examining, Host, HostError, Inventory};

use super::LinuxHost;
use crate::platform;

impl LinuxHost {
    /// What tells whether the firmware's framebuffer lies on a device, and how it is switched off here.
    #[must_use]
    pub fn console(&self) -> Platform {
        platform::console(self.root())
    }
}

impl Examining for LinuxHost {
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
        // The rest can still be judged.
        let holders = self.holders(&addresses).unwrap_or_else(|error| {
            platform.unseen.push(format!("who uses devices ({error})"));
            Vec::new()
        });
        Ok(Facts { inventory, holders, platform })
    }
}
