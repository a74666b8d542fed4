//! Full scans of the simulated host: the listing's inventory, and one blacklisted module.

use std::sync::Arc;

use model::doctor::{Facts, Module, Platform};
use model::{Address, Host, HostError, Inventory, Scan};
use sim::SimHost;

pub struct SimScan(pub Arc<SimHost>);

impl Scan for SimScan {
    fn detail(&self) -> Result<Inventory, HostError> {
        self.0.inventory()
    }

    fn platform(&self) -> Platform {
        let blacklisted = vec!["/etc/modprobe.d/no.conf:1: blacklist vfio-pci".to_owned()];
        let module = Module { available: true, blacklisted, ..Module::default() };
        let modules = [("vfio_pci".to_owned(), module)].into();
        Platform { modules, ..Platform::default() }
    }

    fn facts(&self) -> Result<Facts, HostError> {
        let inventory = self.detail()?;
        let addresses: Vec<Address> = inventory.functions.keys().copied().collect();
        let holders = self.0.holders(&addresses)?;
        Ok(Facts { inventory, holders, platform: self.platform(), ..Facts::default() })
    }
}
