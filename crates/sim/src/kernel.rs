//! The kernel's rules for drivers, overrides, power and group nodes, as far as hand-overs meet them
//! (drivers/base/bus.c, drivers/base/dd.c, drivers/vfio/).

use std::collections::{BTreeMap, BTreeSet};

use model::{Address, HostError, Inventory, NodeAccess, Observed, PowerControl, Step, is_vfio};
use uuid::Uuid;

/// What changes of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionState {
    /// The driver that is bound.
    pub driver: Option<String>,
    /// `driver_override`.
    pub driver_override: Option<String>,
    /// `power/control`.
    pub power: PowerControl,
}

/// The simulated kernel: one boot.
pub(crate) struct Kernel {
    pub(crate) hardware: Inventory,
    pub(crate) functions: BTreeMap<Address, FunctionState>,
    pub(crate) nodes: BTreeMap<u32, NodeAccess>,
    pub(crate) modules: BTreeSet<String>,
    /// Which machine has a group open.
    pub(crate) users: BTreeMap<u32, Uuid>,
    pub(crate) serials: BTreeMap<Address, String>,
    /// Functions that were removed, and that a rescan finds again.
    pub(crate) removed: BTreeSet<Address>,
}

/// An errno with its words, before the path is known.
type Errno = (i32, &'static str);

const ENODEV: Errno = (19, "No such device");
const EBUSY: Errno = (16, "Device or resource busy");
const ENOENT: Errno = (2, "No such file or directory");

impl Kernel {
    pub(crate) fn boot(hardware: Inventory) -> Self {
        let functions = hardware
            .functions
            .values()
            .map(|function| {
                let driver = function.driver.clone();
                let state =
                    FunctionState { driver, driver_override: None, power: PowerControl::Auto };
                (function.address, state)
            })
            .collect();
        Self {
            hardware,
            functions,
            nodes: BTreeMap::new(),
            modules: BTreeSet::new(),
            users: BTreeMap::new(),
            serials: BTreeMap::new(),
            removed: BTreeSet::new(),
        }
    }

    /// The inventory as a listing would show it now.
    pub(crate) fn listing(&self) -> Inventory {
        let mut inventory = self.hardware.clone();
        inventory.functions.retain(|address, _| self.functions.contains_key(address));
        for function in inventory.functions.values_mut() {
            function.driver =
                self.functions.get(&function.address).and_then(|state| state.driver.clone());
        }
        for group in inventory.groups.values_mut() {
            group.members.retain(|address| self.functions.contains_key(address));
        }
        inventory
    }

    pub(crate) fn group_of(&self, address: Address) -> Option<u32> {
        self.hardware.function(address)?.iommu_group
    }

    pub(crate) fn is_on_vfio(&self, address: Address) -> bool {
        let driver = self.functions.get(&address).and_then(|state| state.driver.as_deref());
        driver.is_some_and(|driver| is_vfio(driver, "vfio-pci"))
    }

    pub(crate) fn observe(&self, step: &Step) -> Observed {
        let state = step.address().map(|address| self.functions.get(&address));
        match (step, state) {
            (_, Some(None)) => Observed::Absent,
            (Step::LoadModule { module }, _) => {
                if self.modules.contains(module) {
                    Observed::After
                } else {
                    Observed::Before
                }
            }
            (Step::GrantGroup { group, from, to, .. }, _) => {
                self.nodes.get(group).map_or(Observed::Absent, |now| compare(now, from, to))
            }
            (Step::SetOverride { from, to, .. }, Some(Some(state))) => {
                compare(&state.driver_override, from, to)
            }
            // Drivers set it too when they bind: what is not as it shall be is as it was.
            (Step::SetPower { to, .. }, Some(Some(state))) => {
                if state.power == *to {
                    Observed::After
                } else {
                    Observed::Before
                }
            }
            (Step::Unbind { driver, .. }, Some(Some(state))) => {
                compare(&state.driver, &Some(driver.clone()), &None)
            }
            (Step::Bind { driver, .. } | Step::Return { driver, .. }, Some(Some(state))) => {
                compare(&state.driver, &None, &Some(driver.clone()))
            }
            (_, None) => Observed::Absent,
        }
    }

    pub(crate) fn perform(&mut self, step: &Step) -> Result<(), HostError> {
        let unexpected = |found| HostError::Check { step: step.describe(), found };
        match (self.observe(step), step) {
            (Observed::Before, _) => {}
            (Observed::After, _) => return Ok(()),
            (Observed::Other(found), _) => return Err(unexpected(found)),
            (Observed::Absent, Step::GrantGroup { .. } | Step::LoadModule { .. }) => {
                return Err(unexpected("no such node".into()));
            }
            (Observed::Absent, Step::Return { address, .. }) if self.removed.remove(address) => {
                // As the kernel makes it: a new device, without override.
                let power = PowerControl::On;
                let found = FunctionState { driver: None, driver_override: None, power };
                self.functions.insert(*address, found);
            }
            (Observed::Absent, _) => {
                return Err(step.address().map_or_else(
                    || unexpected("nothing".into()),
                    |address| HostError::Gone { address },
                ));
            }
        }
        self.make(step).map_err(|(errno, words)| HostError::File {
            action: step.describe(),
            path: "sysfs".into(),
            reason: words.into(),
            errno: Some(errno),
        })?;
        // `drivers_probe` reports success even when nothing bound, so the result is what counts.
        match self.observe(step) {
            Observed::After => Ok(()),
            other => Err(unexpected(format!("{other:?}"))),
        }
    }

    fn make(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::LoadModule { module } => {
                self.modules.insert(module.clone());
                Ok(())
            }
            Step::SetOverride { address, to, .. } => {
                self.change(*address, |state| state.driver_override.clone_from(to))
            }
            Step::SetPower { address, to, .. } => self.change(*address, |state| state.power = *to),
            Step::Unbind { address, driver } => self.unbind(*address, driver),
            Step::Bind { address, .. } => self.probe(*address),
            Step::Return { address, driver } => self.give_back(*address, driver),
            Step::GrantGroup { group, to, .. } => match self.nodes.get_mut(group) {
                Some(node) => {
                    *node = *to;
                    Ok(())
                }
                None => Err(ENOENT),
            },
        }
    }

    fn change(
        &mut self,
        address: Address,
        change: impl FnOnce(&mut FunctionState),
    ) -> Result<(), Errno> {
        self.functions.get_mut(&address).map(change).ok_or(ENOENT)
    }

    /// `drivers/X/unbind`: ENODEV unless bound to X. vfio-pci switches runtime sleep off again, and the group's node
    /// goes with its last function.
    fn unbind(&mut self, address: Address, driver: &str) -> Result<(), Errno> {
        let vfio = self.is_on_vfio(address);
        let state = self.functions.get_mut(&address).ok_or(ENOENT)?;
        if state.driver.as_deref() != Some(driver) {
            return Err(ENODEV);
        }
        state.driver = None;
        if vfio {
            state.power = PowerControl::On;
            let group = self.group_of(address);
            let left = self
                .hardware
                .functions
                .values()
                .any(|other| other.iommu_group == group && self.is_on_vfio(other.address));
            if let Some(group) = group.filter(|_| !left) {
                self.nodes.remove(&group);
            }
        }
        Ok(())
    }

    /// `drivers_probe`: the override's driver where one is set and its module is there, else the native one.
    fn probe(&mut self, address: Address) -> Result<(), Errno> {
        let state = self.functions.get(&address).ok_or(ENOENT)?;
        if state.driver.is_some() {
            return Err(EBUSY);
        }
        let native = self.hardware.function(address).and_then(|f| f.driver.clone());
        let driver = state.driver_override.clone().or(native);
        let Some(driver) = driver else { return Ok(()) };
        let vfio = is_vfio(&driver, "vfio-pci");
        if vfio && !self.modules.contains(&driver.replace('-', "_")) {
            return Ok(());
        }
        let group = self.group_of(address);
        if !vfio && group.is_some_and(|group| self.users.contains_key(&group)) {
            return Err(EBUSY);
        }
        self.change(address, |state| {
            state.driver = Some(driver);
            if vfio {
                state.power = PowerControl::Auto;
            }
        })?;
        if let Some(group) = group.filter(|_| vfio) {
            self.nodes.entry(group).or_insert(NodeAccess::KERNEL_DEFAULT);
        }
        Ok(())
    }

    /// Probes; where that gives nothing, binds by the driver's name, which matches the native driver only.
    fn give_back(&mut self, address: Address, driver: &str) -> Result<(), Errno> {
        self.probe(address)?;
        let bound = self.functions.get(&address).and_then(|state| state.driver.as_deref());
        if bound.is_some() {
            return Ok(());
        }
        let native = self.hardware.function(address).and_then(|f| f.driver.as_deref());
        if native != Some(driver) {
            return Err(ENODEV);
        }
        self.change(address, |state| state.driver = Some(driver.into()))
    }
}

fn compare<T: PartialEq + std::fmt::Debug>(now: &T, before: &T, after: &T) -> Observed {
    if now == after {
        Observed::After
    } else if now == before {
        Observed::Before
    } else {
        Observed::Other(format!("{now:?}"))
    }
}
