//! Adding the modes of NVIDIA's GPUs.

use model::{Address, GpuModes, Inventory};

use super::LinuxHost;
use crate::detail::asleep;
use crate::gpu_modes;
use crate::worker_pool::{Answer, Job};

impl LinuxHost {
    /// Adds the modes of those GPUs that are awake and on NVIDIA's driver.
    pub(super) fn add_modes(&self, inventory: &mut Inventory, wanted: &[Address]) {
        for address in wanted {
            let function = inventory.functions.get_mut(address);
            let Some(function) = function.filter(|_| gpu_modes::is_driven(&self.root, *address))
            else {
                continue;
            };
            if function.detail.is_none() || asleep(function).is_some() {
                continue;
            }
            let modes = match (&self.working, self.root.is_host()) {
                (Some(_), _) => match self.read_locked(Job::ReadModes(*address), *address) {
                    Ok(Answer::Modes(modes)) => modes,
                    Ok(_) => GpuModes::default(),
                    Err(error) => {
                        function.notes.push(format!("its modes were not read: {error}"));
                        GpuModes::default()
                    }
                },
                (None, true) => gpu_modes::read(&self.root, *address),
                // What another host's programs would say is not known.
                (None, false) => GpuModes::default(),
            };
            if let Some(detail) = function.detail.as_mut() {
                detail.modes = modes;
            }
        }
    }
}
