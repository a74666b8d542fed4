//! The facts of each kind of step, as one literal without defaults: a new kind does not compile until all facts are
//! given.

use std::time::Duration;

use super::{Lock, Step, StepKind};
use crate::boot_list::BootListEntry;
use crate::{Address, MdevDefinition};

/// The facts of a kind of step. Each kind has them in the file of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepFacts {
    /// Its name in the journal, and of its files in `model`, `host` and `sim`.
    pub name: &'static str,
    /// The kind of the step that undoes it; `None` if nothing has to be undone.
    pub undone_by: Option<StepKind>,
    /// The deadline in a worker; after it, the device is wedged.
    pub deadline: Duration,
    /// Its position among undo steps; `None` if it undoes no kind.
    pub undo_order: Option<UndoOrder>,
    /// Its effect on the driver of its function.
    pub binding: Binding,
    /// Locks that its worker takes in addition to its own.
    pub locks_besides: LocksBesides,
    /// Whether observing it can block: on the lock of a device, on its driver, on the lock of all network interfaces,
    /// on a program or on systemd. Then a worker observes it. Workers perform all steps.
    pub observing_can_block: bool,
    /// Whether the kernel blocks without a timeout until no process uses the device: a worker checks for users first.
    pub waits_for_users: bool,
    /// Whether the host shows its effect.
    pub shows: bool,
    /// Whether the change survives a reboot: a file, not kernel state. Its intent must be synced to disk before it is
    /// performed, and it is undone in any boot in which its claim ends.
    pub outlasts_the_boot: bool,
    /// What an absent function or object means.
    pub when_absent: WhenAbsent,
    /// Whether kernel drivers also set it, so that another value need not come from another tool.
    pub set_by_drivers: bool,
    /// Whether a step without effect is still recorded, so that its value is restored on undo.
    pub recorded_unchanged: bool,
    /// Whether undo continues if another tool changed its value: the value is left, and no other step depends on it.
    pub stands_alone: bool,
}

/// The order of undo steps. Within one function: files first, because nothing depends on them; then access, then the
/// partition, then the override, so that the following probe finds the native driver; power late, because drivers set
/// it when they bind; and the mark last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UndoOrder {
    /// Files, before all functions.
    Files,
    /// Access to nodes, before all functions.
    Access,
    /// Sets of GPUs that NVSwitch isolates, before their GPUs are the host's again.
    Fabric,
    /// The partition of a device.
    Partition,
    /// `driver_override`.
    Override,
    /// Unbind from the vfio driver.
    Unbind,
    /// Return to the native driver.
    Return,
    /// Settings of a partition at its parent.
    Parent,
    /// Driver autoprobe, before the VF count: new virtual functions get drivers, or none, as originally.
    Autoprobe,
    /// The number of virtual functions.
    VfCount,
    /// Persistence mode.
    Persistence,
    /// Power control.
    Power,
    /// The mark, after all else of the function.
    Mark,
    /// Modules that use the driver of a card, after all functions.
    Modules,
    /// Framebuffers of the firmware.
    Framebuffers,
    /// Virtual consoles, when there is a framebuffer again.
    Consoles,
    /// Units, after all else.
    Units,
}

/// When an undo step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UndoStage {
    /// Before all functions.
    BeforeAll,
    /// With its function.
    EachFunction,
    /// After all functions.
    AfterAll,
}

impl UndoOrder {
    /// Whether the step runs before all functions, with its function, or after all functions.
    #[must_use]
    pub const fn stage(self) -> UndoStage {
        match self {
            Self::Files | Self::Access | Self::Fabric => UndoStage::BeforeAll,
            Self::Partition
            | Self::Override
            | Self::Unbind
            | Self::Return
            | Self::Parent
            | Self::Autoprobe
            | Self::VfCount
            | Self::Persistence
            | Self::Power
            | Self::Mark => UndoStage::EachFunction,
            Self::Modules | Self::Framebuffers | Self::Consoles | Self::Units => {
                UndoStage::AfterAll
            }
        }
    }

    /// Whether the claim ends although the step fails: the card itself is back, and later steps do not need this one.
    #[must_use]
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::Fabric | Self::Modules | Self::Framebuffers | Self::Consoles)
    }
}

/// A step's effect on the driver of its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// None.
    Unchanged,
    /// Unbinds the function.
    Taken,
    /// Binds the function to a vfio driver.
    ToVfio,
    /// Returns the function to its native driver.
    ToOwn,
}

/// Locks that a step's worker takes in addition to [`Step::lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocksBesides {
    /// None.
    None,
    /// The host lock: the kernel takes one lock for VF counts, removals and rescans.
    Host,
    /// The host lock, if the function must be found again by a rescan.
    HostToRescan,
    /// The locks of all functions that it affects.
    Domain,
}

/// What an absent function or object means for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAbsent {
    /// The step fails.
    Fails,
    /// The step changes an object that can disappear while the function exists (a node, a mediated device, a vGPU or
    /// persistence mode of an unbound driver, a unit): it is already undone, and performing it fails.
    Undone,
    /// The step is performed: a rescan looks for the function.
    FoundAgain,
}

/// What the facts imply.
impl Step {
    /// The deadline in a worker; after it, the device is wedged.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.facts().deadline
    }

    /// Whether the change survives a reboot.
    #[must_use]
    pub const fn outlasts_the_boot(&self) -> bool {
        self.facts().outlasts_the_boot
    }

    /// The lock of the worker that performs the step; see also [`locks_besides`](Self::locks_besides).
    #[must_use]
    pub const fn lock(&self) -> Lock {
        match self.address() {
            Some(address) => Lock::Function(address),
            None => Lock::Host,
        }
    }

    /// The locks that its worker always takes in addition to [`lock`](Self::lock). The worker itself waits for them:
    /// waiting for other workers of this process is no error, and does not count against a deadline.
    #[must_use]
    pub fn locks_besides(&self) -> Vec<Lock> {
        match self.facts().locks_besides {
            LocksBesides::None | LocksBesides::HostToRescan => Vec::new(),
            LocksBesides::Host => vec![Lock::Host],
            LocksBesides::Domain => self.domain().iter().copied().map(Lock::Function).collect(),
        }
    }

    /// All functions that it affects, if more than its own.
    fn domain(&self) -> &[Address] {
        let Self::Reset { domain, .. } = self else { return &[] };
        domain
    }

    /// Whether the step has no effect.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        self.inverse().as_ref() == Some(self)
    }

    /// Whether two steps change the same value, so that the earlier one has the original value.
    #[must_use]
    pub fn changes_the_same(&self, other: &Self) -> bool {
        self.address().is_some()
            && self.address() == other.address()
            && self.kind() == other.kind()
            && self.part() == other.part()
    }

    /// The mdevctl definition that it writes or removes.
    #[must_use]
    pub fn definition(&self) -> Option<MdevDefinition> {
        let (Self::DefineMdev { address, uuid, type_id, attributes }
        | Self::UndefineMdev { address, uuid, type_id, attributes }) = self.clone()
        else {
            return None;
        };
        Some(MdevDefinition { parent: address, uuid, type_id, attributes })
    }

    /// The boot list entry that it adds or removes.
    #[must_use]
    pub fn boot_list_entry(&self) -> Option<BootListEntry> {
        let (Self::AddToBootList { address, vendor, device, driver }
        | Self::RemoveFromBootList { address, vendor, device, driver }) = self.clone()
        else {
            return None;
        };
        Some(BootListEntry { address, vendor, device, driver })
    }
}
