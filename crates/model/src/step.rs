//! One change to the host: its check, its inverse, its deadline, and whether it may be replayed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Address, PowerControl};

/// Owner and mode of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAccess {
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl NodeAccess {
    /// What the kernel gives a new `/dev/vfio/N` (`vfio_main.c`: the class sets no mode, so devtmpfs makes 0600 root).
    pub const KERNEL_DEFAULT: Self = Self { uid: 0, gid: 0, mode: 0o600 };
}

/// One change to the host's devices. It carries what it replaces, so that its inverse is another step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Load a kernel module (`drivers_probe` loads none). It has no inverse: other devices may use it by then.
    LoadModule {
        /// The module.
        module: String,
    },
    /// Write `driver_override`.
    SetOverride {
        /// The function.
        address: Address,
        /// What is there before.
        from: Option<String>,
        /// What is there after.
        to: Option<String>,
    },
    /// Take the function from its driver. Can block in the kernel for ever.
    Unbind {
        /// The function.
        address: Address,
        /// The driver that has it.
        driver: String,
    },
    /// Bind an unbound function to a vfio driver, by probing with the override set.
    Bind {
        /// The function.
        address: Address,
        /// The vfio driver.
        driver: String,
    },
    /// Give an unbound function back to the driver it was found with: probe; else bind by the driver's name; else
    /// `remove` and bus `rescan`.
    Return {
        /// The function.
        address: Address,
        /// The driver that it was found with.
        driver: String,
    },
    /// Write `power/control`. vfio-pci sets it to `auto` at bind and `on` at unbind, so ours comes after.
    SetPower {
        /// The function.
        address: Address,
        /// What is there before.
        from: PowerControl,
        /// What is there after.
        to: PowerControl,
    },
    /// Change who may open `/dev/vfio/N`.
    GrantGroup {
        /// A function of the group: it finds the group again after a renumbering.
        address: Address,
        /// The group's number.
        group: u32,
        /// What is there before.
        from: NodeAccess,
        /// What is there after.
        to: NodeAccess,
    },
}

/// What the host shows of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// As it was before the step.
    Before,
    /// As the step leaves it.
    After,
    /// Neither: somebody else changed it since. It says what is there.
    Other(String),
    /// The function (or node) is not there any more.
    Absent,
}

/// Which part of the host a step locks, for workers and for recovery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lock {
    /// One function.
    Function(Address),
    /// The whole host: the kernel takes one lock for VF counts, remove and rescan.
    Host,
}

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
            | Self::GrantGroup { address, .. } => Some(*address),
        }
    }

    /// The step that puts back what this one changed.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        Some(match self.clone() {
            Self::LoadModule { .. } => return None,
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
        })
    }

    /// How long the step may take in a worker before its device counts as wedged.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        Duration::from_secs(match self {
            Self::SetOverride { .. } | Self::SetPower { .. } | Self::GrantGroup { .. } => 10,
            Self::LoadModule { .. } | Self::Bind { .. } => 60,
            // NVIDIA's and NVMe drivers flush and shut down; a reset may take a second or more each.
            Self::Unbind { .. } => 60,
            Self::Return { .. } => 90,
        })
    }

    /// What a worker locks while it does the step.
    #[must_use]
    pub const fn lock(&self) -> Lock {
        match self.address() {
            Some(address) => Lock::Function(address),
            None => Lock::Host,
        }
    }

    /// The step in words, for journals, plans and progress.
    #[must_use]
    pub fn describe(&self) -> String {
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
        }
    }

    /// Where the step stands among the restoring steps of one function: access first, then the override, so that the
    /// probe that follows finds the function's own driver, power last because drivers set it when they bind.
    const fn restoring_rank(&self) -> u8 {
        match self {
            Self::GrantGroup { .. } => 0,
            Self::SetOverride { .. } => 1,
            Self::Unbind { .. } => 2,
            Self::Return { .. } | Self::Bind { .. } => 3,
            Self::SetPower { .. } => 4,
            Self::LoadModule { .. } => 5,
        }
    }
}

/// The steps that restore what `done` changed: the inverses, function by function in reverse order, each function's
/// in restoring order (clear the override, unbind, probe, power).
#[must_use]
pub fn restoring(done: &[Step]) -> Vec<Step> {
    let mut order: Vec<Address> = Vec::new();
    for address in done.iter().rev().filter_map(Step::address) {
        if !order.contains(&address) {
            order.push(address);
        }
    }
    let mut steps: Vec<Step> = done.iter().filter_map(Step::inverse).collect();
    steps.sort_by_key(|step| {
        let grant = !matches!(step, Step::GrantGroup { .. });
        let turn = step.address().and_then(|a| order.iter().position(|other| *other == a));
        (grant, turn, step.restoring_rank())
    });
    steps.dedup();
    steps
}
