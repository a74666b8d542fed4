//! What a start would choose, in words: the limits of the process here, the rest is the VMM's.

use model::shown::bytes;
use model::{Choice, DeviceAccess, LaunchError, MachineSpec};

use super::ProcessLauncher;
use super::start::{
    MEMLOCK_FUNCTION, MEMLOCK_MARGIN, START, START_FUNCTION, functions, memlock, patience,
};
use super::vmm::Vmm;
use crate::bars;

impl<V: Vmm> ProcessLauncher<V> {
    pub(super) fn all_choices(&self, spec: &MachineSpec) -> Result<Vec<Choice>, LaunchError> {
        let mut all = self.vmm.choices(spec, &self.config.root)?;
        let count = functions(spec);
        if count > 0 {
            all.push(match self.choose_access(&spec.slots, None) {
                DeviceAccess::Descriptors => Choice::new(
                    "device access",
                    "open descriptors",
                    "the kernel has iommufd, and QEMU takes descriptors: the machine's user may open no node",
                ),
                // Nodes of devices that are not bound yet are not there.
                DeviceAccess::Groups => Choice::new(
                    "device access",
                    "the nodes of IOMMU groups",
                    "unless the devices have nodes of their own when they are bound: `handover doctor` tells",
                ),
            });
        }
        let bars = bars::memory(&self.config.root, spec.slots.iter());
        if let Some(limit) = memlock(spec.memory, count, bars) {
            let parts = format!(
                "the guest's memory and {} of BARs, which VFIO maps, {} for the hypervisor, and {} for each of {}",
                bytes(bars),
                bytes(MEMLOCK_MARGIN),
                bytes(MEMLOCK_FUNCTION),
                several(count)
            );
            all.push(Choice::new("locked memory", bytes(limit), parts));
        }
        let time = patience(spec.memory, count, spec.huge_pages.is_some()).as_secs();
        let why = if count == 0 {
            "no device: no memory is pinned".to_owned()
        } else {
            format!(
                "{} s, {} s for each of {}, and 1 s for each GiB of memory, which is cleared and pinned",
                START.as_secs(),
                START_FUNCTION.as_secs(),
                several(count)
            )
        };
        all.push(Choice::new("time to start", format!("at most {time} s"), why));
        Ok(all)
    }
}

fn several(functions: usize) -> String {
    match functions {
        1 => "1 function".to_owned(),
        count => format!("{count} functions"),
    }
}
