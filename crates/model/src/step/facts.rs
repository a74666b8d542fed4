//! What is fixed of each kind of step.

use std::time::Duration;

use super::{Lock, Replay, Step, VfioNode};
use crate::reserve::Reserved;
use crate::{Address, MdevDefinition};

impl Step {
    /// The function that the step is about, if it is about one.
    #[must_use]
    pub const fn address(&self) -> Option<Address> {
        match self {
            Self::LoadModule { .. } => None,
            Self::SetOverride { address, .. }
            | Self::Unbind { address, .. }
            | Self::Bind { address, .. }
            | Self::Return { address, .. }
            | Self::SetPower { address, .. }
            | Self::GrantGroup { address, .. }
            | Self::GrantNode { address, .. }
            | Self::Evict { address, .. }
            | Self::SetPersistence { address, .. }
            | Self::SetUnit { address, .. }
            | Self::Reset { address, .. }
            | Self::SetVfCount { address, .. }
            | Self::SetAutoprobe { address, .. }
            | Self::SetVf { address, .. }
            | Self::CreateMdev { address, .. }
            | Self::RemoveMdev { address, .. }
            | Self::SetMdevAttribute { address, .. }
            | Self::DefineMdev { address, .. }
            | Self::UndefineMdev { address, .. }
            | Self::ReserveAtBoot { address, .. }
            | Self::UnreserveAtBoot { address, .. }
            | Self::SetVgpu { address, .. } => Some(*address),
        }
    }

    /// The step that puts back what this one changed; `None` where nothing has to be put back.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        Some(match self.clone() {
            Self::LoadModule { .. }
            | Self::Evict { .. }
            | Self::Reset { .. }
            | Self::SetMdevAttribute { .. } => return None,
            Self::SetOverride { address, from, to } => {
                Self::SetOverride { address, from: to, to: from }
            }
            Self::Unbind { address, driver } => Self::Return { address, driver },
            Self::Bind { address, driver } | Self::Return { address, driver } => {
                Self::Unbind { address, driver }
            }
            Self::SetPower { address, from, to } => Self::SetPower { address, from: to, to: from },
            Self::GrantGroup { address, group, from, to } => {
                Self::GrantGroup { address, group, from: to, to: from }
            }
            Self::GrantNode { address, node, from, to } => {
                Self::GrantNode { address, node, from: to, to: from }
            }
            Self::SetPersistence { address, from, to } => {
                Self::SetPersistence { address, from: to, to: from }
            }
            Self::SetUnit { address, unit, from, to } => {
                Self::SetUnit { address, unit, from: to, to: from }
            }
            Self::SetVfCount { address, from, to } => {
                Self::SetVfCount { address, from: to, to: from }
            }
            Self::SetAutoprobe { address, from, to } => {
                Self::SetAutoprobe { address, from: to, to: from }
            }
            Self::SetVf { address, parent, index, from, to } => {
                Self::SetVf { address, parent, index, from: to, to: from }
            }
            Self::CreateMdev { address, uuid, type_id } => {
                Self::RemoveMdev { address, uuid, type_id }
            }
            Self::RemoveMdev { address, uuid, type_id } => {
                Self::CreateMdev { address, uuid, type_id }
            }
            Self::DefineMdev { address, uuid, type_id, attributes } => {
                Self::UndefineMdev { address, uuid, type_id, attributes }
            }
            Self::UndefineMdev { address, uuid, type_id, attributes } => {
                Self::DefineMdev { address, uuid, type_id, attributes }
            }
            Self::ReserveAtBoot { address, vendor, device, driver } => {
                Self::UnreserveAtBoot { address, vendor, device, driver }
            }
            Self::UnreserveAtBoot { address, vendor, device, driver } => {
                Self::ReserveAtBoot { address, vendor, device, driver }
            }
            Self::SetVgpu { address, from, to } => Self::SetVgpu { address, from: to, to: from },
        })
    }

    /// How long the step may take in a worker before its device counts as wedged.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        Duration::from_secs(match self {
            Self::SetOverride { .. }
            | Self::SetPower { .. }
            | Self::GrantGroup { .. }
            | Self::GrantNode { .. }
            | Self::SetAutoprobe { .. }
            | Self::SetVf { .. }
            | Self::SetMdevAttribute { .. } => 10,
            // A disk under load may take its time for a sync.
            Self::DefineMdev { .. }
            | Self::UndefineMdev { .. }
            | Self::ReserveAtBoot { .. }
            | Self::UnreserveAtBoot { .. } => 60,
            Self::LoadModule { .. }
            | Self::Bind { .. }
            | Self::CreateMdev { .. }
            | Self::RemoveMdev { .. }
            | Self::SetVgpu { .. }
            | Self::SetPersistence { .. }
            | Self::Evict { .. }
            | Self::SetUnit { .. } => 60,
            // NVIDIA's and NVMe drivers flush and shut down.
            Self::Unbind { .. } => 60,
            Self::Return { .. } => 90,
            // The kernel itself waits 65 s for a function to come back from an FLR, and as long again from the bus reset that
            // it tries then (`pci_dev_wait` in drivers/pci/pci.c): it shall be the one that says that it is lost.
            Self::Reset { .. } => 150,
            // Seen: more than 30 s for the VFs of eight GPUs, one after another.
            Self::SetVfCount { .. } => 180,
        })
    }

    /// What a worker locks while it does the step. Those that the kernel does one at a time on a whole host take
    /// [`Lock::Host`] besides, and a reset takes all of its domain: in the worker, so that whoever waits is the worker.
    #[must_use]
    pub const fn lock(&self) -> Lock {
        match self.address() {
            Some(address) => Lock::Function(address),
            None => Lock::Host,
        }
    }

    /// Whether it may be made again when it cannot be told whether it was made.
    #[must_use]
    pub const fn replay(&self) -> Replay {
        match self {
            Self::Evict { .. } | Self::Reset { .. } => Replay::Ask,
            _ => Replay::Safe,
        }
    }

    /// mdevctl's definition that it writes or takes away.
    #[must_use]
    pub fn definition(&self) -> Option<MdevDefinition> {
        match self.clone() {
            Self::DefineMdev { address: parent, uuid, type_id, attributes }
            | Self::UndefineMdev { address: parent, uuid, type_id, attributes } => {
                Some(MdevDefinition { parent, uuid, type_id, attributes })
            }
            _ => None,
        }
    }

    /// What it puts on the list of the next boot, or takes off it.
    #[must_use]
    pub fn reservation(&self) -> Option<Reserved> {
        match self.clone() {
            Self::ReserveAtBoot { address, vendor, device, driver }
            | Self::UnreserveAtBoot { address, vendor, device, driver } => {
                Some(Reserved { address, vendor, device, driver })
            }
            _ => None,
        }
    }

    /// Whether what it changes is still there after a boot: a file, and not the kernel's state. Its intent has to be on the
    /// disk before it is made, and it is undone in whichever boot its claim ends.
    #[must_use]
    pub const fn outlasts_the_boot(&self) -> bool {
        matches!(
            self,
            Self::DefineMdev { .. }
                | Self::UndefineMdev { .. }
                | Self::ReserveAtBoot { .. }
                | Self::UnreserveAtBoot { .. }
        )
    }

    /// Whether two steps change the same thing, so that the earlier of the two knows how it was found.
    #[must_use]
    pub fn changes_the_same(&self, other: &Self) -> bool {
        let mdev = |step: &Self| match step {
            Self::CreateMdev { uuid, .. }
            | Self::RemoveMdev { uuid, .. }
            | Self::DefineMdev { uuid, .. }
            | Self::UndefineMdev { uuid, .. } => Some(*uuid),
            Self::GrantNode { node: VfioNode::MdevGroup(uuid), .. } => Some(*uuid),
            _ => None,
        };
        let unit = |step: &Self| match step {
            Self::SetUnit { unit, .. } => Some(unit.clone()),
            _ => None,
        };
        self.address().is_some()
            && self.address() == other.address()
            && std::mem::discriminant(self) == std::mem::discriminant(other)
            && mdev(self) == mdev(other)
            && unit(self) == unit(other)
    }

    /// The step in words, for journals, plans and progress.
    #[must_use]
    pub fn describe(&self) -> String {
        let switch = |on: bool| if on { "on" } else { "off" };
        match self {
            Self::LoadModule { module } => format!("load {module}"),
            Self::SetOverride { address, to: Some(to), .. } => {
                format!("reserve {address} for {to}")
            }
            Self::SetOverride { address, to: None, .. } => {
                format!("clear the reservation of {address}")
            }
            Self::Unbind { address, driver } => format!("take {address} from {driver}"),
            Self::Bind { address, driver } => format!("bind {address} to {driver}"),
            Self::Return { address, driver } => format!("give {address} back to {driver}"),
            Self::SetPower { address, to, .. } => {
                format!("set power control of {address} to {}", to.as_str())
            }
            Self::GrantGroup { group, to, .. } => {
                format!("let uid {} open IOMMU group {group}", to.uid)
            }
            Self::GrantNode { address, node: VfioNode::Device, to, .. } => {
                format!("let uid {} open the VFIO device of {address}", to.uid)
            }
            Self::GrantNode { node: VfioNode::MdevGroup(uuid), to, .. } => {
                format!("let uid {} open the mediated device {uuid}", to.uid)
            }
            Self::Evict { address, user, .. } => format!("ask {user} to let go of {address}"),
            Self::SetPersistence { address, to, .. } => {
                format!("switch persistence mode of {address} {}", switch(*to))
            }
            Self::SetUnit { unit, to: true, .. } => format!("start {unit}"),
            Self::SetUnit { unit, to: false, .. } => format!("stop {unit}"),
            Self::Reset { address, .. } => format!("reset {address}"),
            Self::SetVfCount { address, to, .. } => {
                format!("set the number of virtual functions of {address} to {to}")
            }
            Self::SetAutoprobe { address, to, .. } => {
                format!(
                    "switch automatic drivers for virtual functions of {address} {}",
                    switch(*to)
                )
            }
            Self::SetVf { address, parent, index, to, .. } => {
                format!("tell {parent} of its virtual function {index} ({address}): {to}")
            }
            Self::CreateMdev { address, uuid, type_id } => {
                format!("make mediated device {uuid} ({type_id}) on {address}")
            }
            Self::RemoveMdev { address, uuid, .. } => {
                format!("remove mediated device {uuid} from {address}")
            }
            Self::SetMdevAttribute { uuid, name, value, .. } => {
                format!("write {value:?} to {name} of mediated device {uuid}")
            }
            Self::SetVgpu { address, to: 0, .. } => format!("free the vGPU of {address}"),
            Self::SetVgpu { address, to, .. } => format!("make {address} a vGPU of type {to}"),
            Self::DefineMdev { .. }
            | Self::UndefineMdev { .. }
            | Self::ReserveAtBoot { .. }
            | Self::UnreserveAtBoot { .. } => self.describe_file(),
        }
    }

    /// A step that changes files, in words.
    fn describe_file(&self) -> String {
        match self {
            Self::DefineMdev { uuid, .. } => format!("define mediated device {uuid} for mdevctl"),
            Self::UndefineMdev { uuid, .. } => format!("take mdevctl's definition of {uuid} away"),
            Self::ReserveAtBoot { address, driver, .. } => {
                format!("reserve {address} for {driver} at the next boots")
            }
            Self::UnreserveAtBoot { address, .. } => {
                format!("reserve {address} no longer at the next boots")
            }
            _ => String::new(),
        }
    }
}
