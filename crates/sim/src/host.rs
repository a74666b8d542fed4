//! The simulated host: the kernel behind a lock, with faults in front of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{
    Address, AsFound, Capacity, Fingerprint, Holder, Host, HostError, Inventory, Lock, NodeAccess,
    Observed, Step,
};
use uuid::Uuid;

use crate::fault::{Fault, Faults, When};
use crate::kernel::{FunctionState, Kernel};

/// A host in memory.
pub struct SimHost {
    inside: Mutex<Inside>,
}

/// What a hand-over changes and must put back: compare one before with one after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Driver, override and power of every function.
    pub functions: BTreeMap<Address, FunctionState>,
    /// The vfio group nodes.
    pub nodes: BTreeMap<u32, NodeAccess>,
}

pub(crate) struct Inside {
    pub(crate) kernel: Kernel,
    boot: Uuid,
    faults: Faults,
    /// Workers that are inside the kernel, and what they are at.
    stuck: BTreeMap<Lock, Step>,
    holders: Vec<Holder>,
    holders_hidden: bool,
    capacity: Capacity,
    performed: u64,
}

impl SimHost {
    /// A host with this hardware: 8 CPUs and 16 GiB.
    #[must_use]
    pub fn new(hardware: Inventory) -> Self {
        let memory = 16 << 30;
        let capacity = Capacity { cpus: 8, memory, memory_available: memory };
        let inside = Inside {
            kernel: Kernel::boot(hardware),
            boot: Uuid::new_v4(),
            faults: Faults::default(),
            stuck: BTreeMap::new(),
            holders: Vec::new(),
            holders_hidden: false,
            capacity,
            performed: 0,
        };
        Self { inside: Mutex::new(inside) }
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a hand-over must put back.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let inside = self.inside();
        Snapshot { functions: inside.kernel.functions.clone(), nodes: inside.kernel.nodes.clone() }
    }

    /// How many steps were performed since the host was made.
    #[must_use]
    pub fn performed(&self) -> u64 {
        self.inside().performed
    }

    /// Lets something go wrong.
    pub fn fault(&self, when: When, fault: Fault) {
        self.inside().faults.add(when, fault);
    }

    /// Takes back faults that have not hit yet.
    pub fn clear_faults(&self) {
        self.inside().faults.clear();
    }

    /// Lets the stuck workers out of the kernel: what they were at happens now.
    pub fn release(&self) {
        let mut inside = self.inside();
        for (_, step) in std::mem::take(&mut inside.stuck) {
            // Nobody waits for the outcome any more.
            let _ = inside.kernel.perform(&step);
        }
    }

    /// Starts the host anew: drivers, overrides, nodes and workers are gone; the hardware stays. Machines go with it:
    /// see [`SimLauncher::reboot`](crate::SimLauncher::reboot).
    pub fn reboot(&self) {
        let mut inside = self.inside();
        let serials = inside.kernel.serials.clone();
        inside.kernel = Kernel::boot(inside.kernel.hardware.clone());
        inside.kernel.serials = serials;
        inside.stuck.clear();
        inside.boot = Uuid::new_v4();
    }

    /// Another tool changes a function.
    pub fn change(&self, address: Address, change: impl FnOnce(&mut FunctionState)) {
        if let Some(state) = self.inside().kernel.functions.get_mut(&address) {
            change(state);
        }
    }

    /// Somebody removes a function from its bus (`echo 1 > remove`); a rescan finds it again.
    pub fn remove(&self, address: Address) {
        let mut inside = self.inside();
        inside.kernel.functions.remove(&address);
        inside.kernel.removed.insert(address);
    }

    /// Another tool performs a step: drivers, power and nodes follow.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn meddle(&self, step: &Step) -> Result<(), HostError> {
        self.inside().kernel.perform(step)
    }

    /// Puts another card, with this serial number, at an address.
    pub fn replace_card(&self, address: Address, serial: &str) {
        self.inside().kernel.serials.insert(address, serial.into());
    }

    /// Lets somebody use a function.
    pub fn hold(&self, holder: Holder) {
        self.inside().holders.push(holder);
    }

    /// Makes it impossible to find out in time who uses functions, or possible again.
    pub fn hide_holders(&self, hidden: bool) {
        self.inside().holders_hidden = hidden;
    }
}

impl Inside {
    fn expect_free(&self, step: &Step) -> Result<(), HostError> {
        let lock = step.lock();
        if !self.stuck.contains_key(&lock) {
            return Ok(());
        }
        Err(HostError::Locked { step: step.describe(), lock: format!("{lock:?}") })
    }

    fn hang(&mut self, step: &Step) -> HostError {
        self.stuck.insert(step.lock(), step.clone());
        HostError::Deadline { step: step.describe(), seconds: step.deadline().as_secs() }
    }

    /// Unbinding a vfio function that a machine has open waits, unkillably, for the close.
    fn would_block(&self, step: &Step) -> bool {
        let Step::Unbind { address, .. } = step else { return false };
        let group = self.kernel.group_of(*address);
        self.kernel.is_on_vfio(*address)
            && group.is_some_and(|group| self.kernel.users.contains_key(&group))
    }

    fn found(&self, address: Address) -> Result<AsFound, HostError> {
        if self.stuck.contains_key(&Lock::Function(address)) {
            let step = format!("reading driver_override of {address}");
            return Err(HostError::Deadline { step, seconds: 10 });
        }
        let gone = HostError::Gone { address };
        let state = self.kernel.functions.get(&address).ok_or(gone.clone())?;
        let function = self.kernel.hardware.function(address).ok_or(gone)?;
        Ok(AsFound {
            address,
            driver: state.driver.clone(),
            driver_override: state.driver_override.clone(),
            power: Some(state.power),
            fingerprint: Fingerprint {
                vendor: function.vendor,
                device: function.device,
                subsystem_vendor: function.subsystem_vendor,
                subsystem_device: function.subsystem_device,
                serial: self.kernel.serials.get(&address).cloned(),
                slot_path: format!("{:02x}.{}", address.device(), address.function()),
            },
        })
    }
}

impl Host for SimHost {
    fn boot_id(&self) -> Result<String, HostError> {
        Ok(self.inside().boot.to_string())
    }

    fn inventory(&self) -> Result<Inventory, HostError> {
        Ok(self.inside().kernel.listing())
    }

    fn as_found(&self, addresses: &[Address]) -> Result<Vec<AsFound>, HostError> {
        let inside = self.inside();
        addresses.iter().map(|address| inside.found(*address)).collect()
    }

    fn group_nodes(&self, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError> {
        let mut nodes = self.inside().kernel.nodes.clone();
        nodes.retain(|group, _| groups.contains(group));
        Ok(nodes)
    }

    fn holders(&self, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
        let inside = self.inside();
        if inside.holders_hidden {
            let step = "reading /proc/4711/maps".into();
            return Err(HostError::Deadline { step, seconds: 10 });
        }
        let of = |holder: &&Holder| addresses.contains(&holder.address);
        Ok(inside.holders.iter().filter(of).cloned().collect())
    }

    fn observe(&self, step: &Step) -> Result<Observed, HostError> {
        let inside = self.inside();
        inside.expect_free(step)?;
        Ok(inside.kernel.observe(step))
    }

    fn perform(&self, step: &Step) -> Result<(), HostError> {
        let mut inside = self.inside();
        inside.expect_free(step)?;
        inside.performed += 1;
        let fault = inside.faults.hit(step);
        match (fault, step.address()) {
            (Some(Fault::Refuse), _) => Err(HostError::File {
                action: step.describe(),
                path: "sysfs".into(),
                reason: "Input/output error".into(),
                errno: Some(5),
            }),
            (Some(Fault::Hang), _) => Err(inside.hang(step)),
            (Some(Fault::Lose), Some(address)) => {
                inside.kernel.functions.remove(&address);
                Err(HostError::Gone { address })
            }
            _ if inside.would_block(step) => Err(inside.hang(step)),
            _ => inside.kernel.perform(step),
        }
    }

    fn is_locked(&self, lock: &Lock) -> Result<bool, HostError> {
        Ok(self.inside().stuck.contains_key(lock))
    }

    fn capacity(&self) -> Result<Capacity, HostError> {
        Ok(self.inside().capacity)
    }
}
