//! What every kind of step says of itself, in one literal without defaults: a new kind does not compile until all is said.

use std::time::Duration;

use super::{Lock, Step, StepKind};
use crate::boot_list::BootListEntry;
use crate::{Address, MdevDefinition};

/// What is fixed of a kind of step. Each kind's is in the file of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepFacts {
    /// Its word in the journal, and the name of its files in `model`, `host` and `sim`.
    pub name: &'static str,
    /// The kind of the step that puts back what it changed; `None` where nothing has to be put back.
    pub undone_by: Option<StepKind>,
    /// How long it may take in a worker before its device counts as wedged.
    pub deadline: Duration,
    /// Where it stands among the steps that undo; `None` where no kind is undone by it.
    pub undo_order: Option<UndoOrder>,
    /// What it does with the driver of its function.
    pub binding: Binding,
    /// Which locks its worker takes besides its own.
    pub locks_besides: LocksBesides,
    /// Whether looking at it could wait: for the lock of a device, for its driver, for the lock of all network interfaces,
    /// for a program or for systemd. Then a worker looks. Every step is made by a worker.
    pub observing_can_block: bool,
    /// Whether the kernel, asked for it, waits without an end until no process uses the device: a worker looks for users first.
    pub waits_for_users: bool,
    /// Whether the host shows that it was made.
    pub shows: bool,
    /// Whether what it changes is still there after a boot: a file, and not the kernel's state. Its intent has to be on the
    /// disk before it is made, and it is undone in whichever boot its claim ends.
    pub outlasts_the_boot: bool,
    /// What it means where its function, or what it is about, is not there.
    pub when_absent: WhenAbsent,
    /// Whether the kernel's drivers set it too, so that another value is no other tool's doing.
    pub set_by_drivers: bool,
    /// Whether one that leaves all as it is is recorded all the same, so that the way back knows of it.
    pub recorded_unchanged: bool,
    /// Whether nothing else follows from what another tool made of it: it is left as it is, and undoing goes on.
    pub stands_alone: bool,
}

/// Where a step stands among those that undo. Within one function, in this order: what is written down of it first, for
/// nothing follows from that; then access, then the partition, then the override, so that the probe that follows finds the
/// function's own driver; power late, because drivers set it when they bind; and the mark last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UndoOrder {
    /// Files, before all functions.
    Files,
    /// Who may open nodes, before all functions.
    Access,
    /// The part of a device.
    Partition,
    /// `driver_override`.
    Override,
    /// The vfio driver lets go.
    Unbind,
    /// The own driver gets it back.
    Return,
    /// What a parent knows of its parts.
    Parent,
    /// Automatic drivers: virtual functions that come back get drivers, or none, as they did when they were found.
    Autoprobe,
    /// How many virtual functions there are.
    VfCount,
    /// Persistence mode.
    Persistence,
    /// Whether it may sleep.
    Power,
    /// Whose it is: when all else of it is back.
    Mark,
    /// Units, after all functions.
    Units,
}

/// Which functions a step of the way back waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UndoStage {
    /// It comes before all functions are given back.
    BeforeAll,
    /// It comes when the turn of its function comes.
    EachFunction,
    /// It comes when all functions are back.
    AfterAll,
}

impl UndoOrder {
    /// Whether it comes with its function, or before or after all of them.
    #[must_use]
    pub const fn stage(self) -> UndoStage {
        match self {
            Self::Files | Self::Access => UndoStage::BeforeAll,
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
            Self::Units => UndoStage::AfterAll,
        }
    }
}

/// What a step does with the driver of its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nothing.
    Unchanged,
    /// It takes the function from its driver.
    Taken,
    /// It binds the function to a vfio driver.
    ToVfio,
    /// It gives the function back to its own driver.
    ToOwn,
}

/// Which locks a step's worker takes besides the one that comes with its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocksBesides {
    /// None.
    None,
    /// The whole host's: the kernel takes one lock for VF counts, removals and rescans.
    Host,
    /// The whole host's, where the function has to be found again by a rescan.
    HostToRescan,
    /// Those of all functions that it hits.
    Domain,
}

/// What it means where a step's function, or what the step is about, is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAbsent {
    /// It cannot be made.
    Fails,
    /// It is not about the function itself but of what can be gone while the function is there (a node, a mediated device, a
    /// vGPU or persistence mode of a driver that has it no more, a unit): undone already, and it cannot be made.
    Undone,
    /// It is made all the same: it looks for the function by a rescan.
    FoundAgain,
}

/// What follows from the facts.
impl Step {
    /// How long the step may take in a worker before its device counts as wedged.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.facts().deadline
    }

    /// Whether what it changes is still there after a boot.
    #[must_use]
    pub const fn outlasts_the_boot(&self) -> bool {
        self.facts().outlasts_the_boot
    }

    /// What a worker locks while it does the step: [`locks_besides`](Self::locks_besides) tells what more it takes.
    #[must_use]
    pub const fn lock(&self) -> Lock {
        match self.address() {
            Some(address) => Lock::Function(address),
            None => Lock::Host,
        }
    }

    /// The locks that its worker always takes besides [`lock`](Self::lock): in the worker, so that whoever waits is the
    /// worker. What others of this process wait for them must neither be an error nor count against a deadline.
    #[must_use]
    pub fn locks_besides(&self) -> Vec<Lock> {
        match self.facts().locks_besides {
            LocksBesides::None | LocksBesides::HostToRescan => Vec::new(),
            LocksBesides::Host => vec![Lock::Host],
            LocksBesides::Domain => self.domain().iter().copied().map(Lock::Function).collect(),
        }
    }

    /// All functions that it hits, where those are more than its own.
    fn domain(&self) -> &[Address] {
        let Self::Reset { domain, .. } = self else { return &[] };
        domain
    }

    /// Whether it leaves all as it is.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        self.inverse().as_ref() == Some(self)
    }

    /// Whether two steps change the same thing, so that the earlier of the two knows how it was found.
    #[must_use]
    pub fn changes_the_same(&self, other: &Self) -> bool {
        self.address().is_some()
            && self.address() == other.address()
            && self.kind() == other.kind()
            && self.part() == other.part()
    }

    /// mdevctl's definition that it writes or takes away.
    #[must_use]
    pub fn definition(&self) -> Option<MdevDefinition> {
        let (Self::DefineMdev { address, uuid, type_id, attributes }
        | Self::UndefineMdev { address, uuid, type_id, attributes }) = self.clone()
        else {
            return None;
        };
        Some(MdevDefinition { parent: address, uuid, type_id, attributes })
    }

    /// What it puts on the list of the next boot, or takes off it.
    #[must_use]
    pub fn reservation(&self) -> Option<BootListEntry> {
        let (Self::AddToBootList { address, vendor, device, driver }
        | Self::RemoveFromBootList { address, vendor, device, driver }) = self.clone()
        else {
            return None;
        };
        Some(BootListEntry { address, vendor, device, driver })
    }
}
