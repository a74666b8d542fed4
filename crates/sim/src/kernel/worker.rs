//! What a worker looks at before it asks the kernel, which would wait for ever or hit somebody.

use model::{Address, Step, is_vfio};

use super::{EBUSY, ENOSPC, ETIMEDOUT, Errno, Kernel};

/// Drivers that have nothing to lose by a reset.
const HARMLESS: [&str; 2] = ["pcieport", "pci-stub"];

impl Kernel {
    /// Why a worker does not even try.
    pub(super) fn refusal(&self, step: &Step) -> Option<Errno> {
        let (refused, errno) = match step {
            Step::Unbind { address, .. } => {
                let vgpu = self.state(*address).is_ok_and(|s| s.vgpu.is_some_and(|id| id != 0));
                let parent = vgpu || self.children(*address).next().is_some();
                (self.is_open(*address) || self.is_held_by_nvidia(*address) || parent, EBUSY)
            }
            Step::SetVfCount { address, .. } => (self.uses_parts(*address), EBUSY),
            Step::RemoveMdev { uuid, .. } => (self.removal_blocks(*uuid), EBUSY),
            Step::Reset { address, domain, .. } => (self.hits_somebody(*address, domain), EBUSY),
            Step::SetVgpu { address, to, .. } if *to != 0 => {
                (!self.creatable(*address).iter().any(|kind| kind.id == *to), ENOSPC)
            }
            // It was asked, and is waited for until the worker gives up.
            Step::Evict { pid, started, .. } => (self.is_stubborn(*pid, *started), ETIMEDOUT),
            _ => return None,
        };
        refused.then_some(errno)
    }

    /// Whether anybody uses a virtual function, or a part of it or of its parent.
    fn uses_parts(&self, parent: Address) -> bool {
        let functions: Vec<Address> = self.virtual_functions(parent).collect();
        let vgpu = |f: &Address| self.state(*f).is_ok_and(|s| s.vgpu.is_some_and(|id| id != 0));
        functions.iter().any(|f| self.is_open(*f) || vgpu(f))
            || !self.holders_of(&functions).is_empty()
            || functions.iter().chain([&parent]).any(|f| self.children(*f).next().is_some())
    }

    /// Whether a reset hits more than was said, a driver that would lose its device, or a machine.
    fn hits_somebody(&self, address: Address, domain: &[Address]) -> bool {
        let hit = self.reset_domain(address);
        let more = hit.iter().any(|other| *other != address && !domain.contains(other));
        let bound = |function: &Address| {
            let driver = self.state(*function).ok().and_then(|state| state.driver.as_deref());
            driver.is_some_and(|driver| !is_vfio(driver, "vfio-pci") && !HARMLESS.contains(&driver))
        };
        more || hit.iter().chain(domain).any(|function| bound(function) || self.is_open(*function))
    }
}
