//! Steps: single changes to the host, each with its check, inverse and deadline. Each kind has a file of its name here,
//! in `host` and in `sim`.

mod add_to_boot_list;
mod bind;
mod create_mdev;
mod define_mdev;
mod evict;
mod facts;
mod grant_group;
mod grant_node;
mod load_module;
mod mark;
mod remove_from_boot_list;
mod remove_mdev;
mod reset;
mod restoring;
mod r#return;
mod set_autoprobe;
mod set_console;
mod set_fabric_set;
mod set_framebuffer;
mod set_mdev_attribute;
mod set_module;
mod set_override;
mod set_persistence;
mod set_power;
mod set_unit;
mod set_vf;
mod set_vf_count;
mod set_vgpu;
mod unbind;
mod undefine_mdev;
mod unmark;
mod values;
mod words;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::boot_list::BootListEntry;
use crate::{Address, Id, LinkBaseline, Mark, MdevDefinition, PowerControl, VfSettings};

pub use facts::{Binding, LocksBesides, StepFacts, UndoOrder, UndoStage, WhenAbsent};
pub use restoring::restoring;
pub use values::{Lock, NodeAccess, Observed, VfioNode};

/// One change to the host's devices. It carries the old value, so that its inverse is another step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Mark an unmarked function as claimed, so that another Handover process with another state directory does not
    /// claim it.
    Mark {
        /// The function.
        address: Address,
        /// The new mark.
        mark: Mark,
    },
    /// Remove the mark of a claim.
    Unmark {
        /// The function.
        address: Address,
        /// The old mark.
        mark: Mark,
    },
    /// Load a kernel module (`drivers_probe` loads none). No inverse: other devices may use it by then.
    LoadModule {
        /// The module.
        module: String,
    },
    /// Write `driver_override`.
    SetOverride {
        /// The function.
        address: Address,
        /// The old value.
        from: Option<String>,
        /// The new value.
        to: Option<String>,
    },
    /// Unbind the function from its driver. Can block in the kernel forever.
    Unbind {
        /// The function.
        address: Address,
        /// The bound driver.
        driver: String,
    },
    /// Bind an unbound function to a vfio driver, by a probe with `driver_override` set.
    Bind {
        /// The function.
        address: Address,
        /// The vfio driver.
        driver: String,
    },
    /// Return an unbound function to its original driver: by probe, else by binding to the driver by name, else by
    /// `remove` and bus `rescan`.
    Return {
        /// The function.
        address: Address,
        /// The original driver.
        driver: String,
    },
    /// Write `power/control`. vfio-pci sets it to `auto` at bind and `on` at unbind, so this step comes later.
    SetPower {
        /// The function.
        address: Address,
        /// The old value.
        from: PowerControl,
        /// The new value.
        to: PowerControl,
    },
    /// Change owner and mode of `/dev/vfio/N`.
    GrantGroup {
        /// A function of the group, to find the group again if its number changes.
        address: Address,
        /// The group's number.
        group: u32,
        /// The old value.
        from: NodeAccess,
        /// The new value.
        to: NodeAccess,
    },
    /// Change owner and mode of a VFIO node whose number is known only once it exists.
    GrantNode {
        /// The function, or the parent of the mediated device.
        address: Address,
        /// The node.
        node: VfioNode,
        /// The old value.
        from: NodeAccess,
        /// The new value.
        to: NodeAccess,
    },
    /// Ask a process that uses the function to exit (SIGTERM), and wait for it. It is never killed, and never asked
    /// twice: another process may have its pid by then.
    Evict {
        /// The function.
        address: Address,
        /// The process.
        pid: u32,
        /// Its start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
        started: u64,
        /// The process, in words.
        user: String,
    },
    /// Set the persistence mode of one NVIDIA GPU (`nvidia-smi -i ADDRESS -pm`).
    SetPersistence {
        /// The function.
        address: Address,
        /// The old value.
        from: bool,
        /// The new value.
        to: bool,
    },
    /// Start or stop a systemd unit by D-Bus.
    SetUnit {
        /// The function for which the unit is started or stopped.
        address: Address,
        /// The unit.
        unit: String,
        /// Whether it was active.
        from: bool,
        /// Whether it will be active.
        to: bool,
    },
    /// Activate or deactivate a set of GPUs in NVIDIA's Fabric Manager.
    SetFabricSet {
        /// The first GPU of the set.
        address: Address,
        /// Fabric Manager's number of the set.
        set: u32,
        /// Whether it was active.
        from: bool,
        /// Whether it will be active.
        to: bool,
    },
    /// Reset the function by the kernel's `reset`, and check that it responds afterwards and that its link is not
    /// degraded. No inverse, and never repeated: a machine may use the function by then.
    Reset {
        /// The function.
        address: Address,
        /// All functions that the reset affects, including this one, by address.
        domain: Vec<Address>,
        /// Its link before the reset.
        link: Option<LinkBaseline>,
    },
    /// Change the number of virtual functions, through 0 as the kernel requires, and wait for all of them.
    SetVfCount {
        /// The physical function.
        address: Address,
        /// The old number.
        from: u16,
        /// The new number.
        to: u16,
    },
    /// Write `sriov_drivers_autoprobe`: whether the kernel binds drivers to new virtual functions.
    SetAutoprobe {
        /// The physical function.
        address: Address,
        /// The old value.
        from: bool,
        /// The new value.
        to: bool,
    },
    /// Configure a virtual function at its physical function by netlink.
    SetVf {
        /// The virtual function.
        address: Address,
        /// Its physical function.
        parent: Address,
        /// Its index.
        index: u16,
        /// The old values of what `to` sets.
        from: VfSettings,
        /// The new value.
        to: VfSettings,
    },
    /// Create a mediated device.
    CreateMdev {
        /// Its parent.
        address: Address,
        /// Its UUID.
        uuid: Uuid,
        /// Its type.
        type_id: String,
    },
    /// Remove a mediated device. The kernel waits while a VMM has it open, so it is never done then.
    RemoveMdev {
        /// Its parent.
        address: Address,
        /// Its UUID.
        uuid: Uuid,
        /// Its type.
        type_id: String,
    },
    /// Write an attribute of a mediated device. No inverse: it disappears with the device.
    SetMdevAttribute {
        /// Its parent.
        address: Address,
        /// Its UUID.
        uuid: Uuid,
        /// The attribute, a path below the device such as `nvidia/vgpu_params`.
        name: String,
        /// The value.
        value: String,
    },
    /// Write mdevctl's definition of a mediated device, if there is none. It survives a reboot.
    DefineMdev {
        /// Its parent.
        address: Address,
        /// Its UUID.
        uuid: Uuid,
        /// Its type.
        type_id: String,
        /// Attributes to write after creation, in order.
        attributes: Vec<(String, String)>,
    },
    /// Remove a definition that is unchanged since it was written.
    UndefineMdev {
        /// Its parent.
        address: Address,
        /// Its UUID.
        uuid: Uuid,
        /// Its type.
        type_id: String,
        /// Its attributes, in order.
        attributes: Vec<(String, String)>,
    },
    /// Add a function to the boot list. The list survives a reboot; the initial ramdisk has the list of when it was
    /// last built.
    #[serde(alias = "reserve_at_boot")]
    AddToBootList {
        /// The function.
        address: Address,
        /// The vendor id that it must still have at boot.
        vendor: Id,
        /// The device id that it must still have at boot.
        device: Id,
        /// The vfio driver to bind.
        driver: String,
    },
    /// Remove a function from the boot list, if its entry is unchanged.
    #[serde(alias = "unreserve_at_boot")]
    RemoveFromBootList {
        /// The function.
        address: Address,
        /// Its vendor.
        vendor: Id,
        /// Its device id.
        device: Id,
        /// The vfio driver of the entry.
        driver: String,
    },
    /// Make a virtual function a vGPU, or free it (0), by `nvidia/current_vgpu_type`. Freeing is retried for up to 10
    /// s.
    SetVgpu {
        /// The virtual function.
        address: Address,
        /// The old type; 0 is none.
        from: u32,
        /// The new type; 0 is none.
        to: u32,
    },
    /// Write `bind` of a virtual console: whether its driver, such as the one for framebuffers, draws it.
    SetConsole {
        /// The card that it is drawn on.
        address: Address,
        /// N of `vtconN`.
        console: u32,
        /// Whether it was bound.
        from: bool,
        /// Whether it will be bound.
        to: bool,
    },
    /// Unbind the driver of the firmware's framebuffer from its platform device, or bind it.
    SetFramebuffer {
        /// The card that has the memory of the framebuffer.
        address: Address,
        /// The platform device: `simple-framebuffer.0`.
        device: String,
        /// Its driver.
        driver: String,
        /// Whether it was bound.
        from: bool,
        /// Whether it will be bound.
        to: bool,
    },
    /// Unload a module that uses the card's driver, never by force, or load it.
    SetModule {
        /// The card.
        address: Address,
        /// The module.
        module: String,
        /// Whether it was loaded.
        from: bool,
        /// Whether it will be loaded.
        to: bool,
    },
}

/// The kinds of steps, each with the module of its facts.
macro_rules! kinds {
    ($($kind:ident => $home:ident,)+) => {
        /// A kind of [`Step`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum StepKind {
            $(#[doc = concat!("[`Step::", stringify!($kind), "`].")] $kind,)+
        }

        impl StepKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The facts of the kind.
            #[must_use]
            pub const fn facts(self) -> StepFacts {
                match self {
                    $(Self::$kind => $home::FACTS,)+
                }
            }
        }

        impl Step {
            /// The step's kind.
            #[must_use]
            pub const fn kind(&self) -> StepKind {
                match self {
                    $(Self::$kind { .. } => StepKind::$kind,)+
                }
            }
        }
    };
}

kinds! {
    Mark => mark,
    Unmark => unmark,
    LoadModule => load_module,
    SetOverride => set_override,
    Unbind => unbind,
    Bind => bind,
    Return => r#return,
    SetPower => set_power,
    GrantGroup => grant_group,
    GrantNode => grant_node,
    Evict => evict,
    SetPersistence => set_persistence,
    SetUnit => set_unit,
    Reset => reset,
    SetVfCount => set_vf_count,
    SetAutoprobe => set_autoprobe,
    SetVf => set_vf,
    CreateMdev => create_mdev,
    RemoveMdev => remove_mdev,
    SetMdevAttribute => set_mdev_attribute,
    DefineMdev => define_mdev,
    UndefineMdev => undefine_mdev,
    AddToBootList => add_to_boot_list,
    RemoveFromBootList => remove_from_boot_list,
    SetVgpu => set_vgpu,
    SetConsole => set_console,
    SetFramebuffer => set_framebuffer,
    SetModule => set_module,
    SetFabricSet => set_fabric_set,
}

/// Distinguishes two steps of one kind for one function.
#[derive(PartialEq)]
enum Part<'a> {
    /// No distinction: both change the same.
    Whole,
    Mdev(Uuid),
    Unit(&'a str),
    Console(u32),
    FabricSet(u32),
    Named(&'a str),
}

impl Step {
    /// The facts of the step's kind.
    #[must_use]
    pub const fn facts(&self) -> StepFacts {
        self.kind().facts()
    }
}

/// What depends on a step's values; each kind's part is in its file.
impl Step {
    /// The function that the step changes, if any.
    #[must_use]
    pub const fn address(&self) -> Option<Address> {
        match self {
            Self::LoadModule { .. } => None,
            Self::Mark { address, .. }
            | Self::Unmark { address, .. }
            | Self::SetOverride { address, .. }
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
            | Self::AddToBootList { address, .. }
            | Self::RemoveFromBootList { address, .. }
            | Self::SetVgpu { address, .. }
            | Self::SetConsole { address, .. }
            | Self::SetFramebuffer { address, .. }
            | Self::SetModule { address, .. }
            | Self::SetFabricSet { address, .. } => Some(*address),
        }
    }

    /// The part of its function that it changes.
    fn part(&self) -> Part<'_> {
        match self {
            Self::CreateMdev { uuid, .. }
            | Self::RemoveMdev { uuid, .. }
            | Self::DefineMdev { uuid, .. }
            | Self::UndefineMdev { uuid, .. }
            | Self::GrantNode { node: VfioNode::MdevGroup(uuid), .. } => Part::Mdev(*uuid),
            Self::SetUnit { unit, .. } => Part::Unit(unit),
            Self::SetConsole { console, .. } => Part::Console(*console),
            Self::SetFabricSet { set, .. } => Part::FabricSet(*set),
            Self::SetFramebuffer { device: name, .. } | Self::SetModule { module: name, .. } => {
                Part::Named(name)
            }
            Self::Mark { .. }
            | Self::Unmark { .. }
            | Self::LoadModule { .. }
            | Self::SetOverride { .. }
            | Self::Unbind { .. }
            | Self::Bind { .. }
            | Self::Return { .. }
            | Self::SetPower { .. }
            | Self::GrantGroup { .. }
            | Self::GrantNode { node: VfioNode::Device, .. }
            | Self::Evict { .. }
            | Self::SetPersistence { .. }
            | Self::Reset { .. }
            | Self::SetVfCount { .. }
            | Self::SetAutoprobe { .. }
            | Self::SetVf { .. }
            // Not undone: they disappear with their device.
            | Self::SetMdevAttribute { .. }
            | Self::AddToBootList { .. }
            | Self::RemoveFromBootList { .. }
            | Self::SetVgpu { .. } => Part::Whole,
        }
    }

    /// The step that undoes this one; `None` if nothing has to be undone.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        Some(match self.clone() {
            Self::LoadModule { .. }
            | Self::Evict { .. }
            | Self::Reset { .. }
            | Self::SetMdevAttribute { .. } => return None,
            Self::Mark { address, mark } => mark::inverse(address, mark),
            Self::Unmark { address, mark } => unmark::inverse(address, mark),
            Self::SetOverride { address, from, to } => set_override::inverse(address, from, to),
            Self::Unbind { address, driver } => unbind::inverse(address, driver),
            Self::Bind { address, driver } => bind::inverse(address, driver),
            Self::Return { address, driver } => r#return::inverse(address, driver),
            Self::SetPower { address, from, to } => set_power::inverse(address, from, to),
            Self::GrantGroup { address, group, from, to } => {
                grant_group::inverse(address, group, from, to)
            }
            Self::GrantNode { address, node, from, to } => {
                grant_node::inverse(address, node, from, to)
            }
            Self::SetPersistence { address, from, to } => {
                set_persistence::inverse(address, from, to)
            }
            Self::SetUnit { address, unit, from, to } => set_unit::inverse(address, unit, from, to),
            Self::SetConsole { address, console, from, to } => {
                set_console::inverse(address, console, from, to)
            }
            Self::SetFramebuffer { address, device, driver, from, to } => {
                set_framebuffer::inverse(address, device, driver, (from, to))
            }
            Self::SetModule { address, module, from, to } => {
                set_module::inverse(address, module, from, to)
            }
            Self::SetFabricSet { address, set, from, to } => {
                set_fabric_set::inverse(address, set, from, to)
            }
            Self::SetVfCount { address, from, to } => set_vf_count::inverse(address, from, to),
            Self::SetAutoprobe { address, from, to } => set_autoprobe::inverse(address, from, to),
            Self::SetVf { address, parent, index, from, to } => {
                set_vf::inverse(address, parent, index, from, to)
            }
            Self::CreateMdev { address, uuid, type_id } => {
                create_mdev::inverse(address, uuid, type_id)
            }
            Self::RemoveMdev { address, uuid, type_id } => {
                remove_mdev::inverse(address, uuid, type_id)
            }
            Self::DefineMdev { address: parent, uuid, type_id, attributes } => {
                define_mdev::inverse(MdevDefinition { parent, uuid, type_id, attributes })
            }
            Self::UndefineMdev { address: parent, uuid, type_id, attributes } => {
                undefine_mdev::inverse(MdevDefinition { parent, uuid, type_id, attributes })
            }
            Self::AddToBootList { address, vendor, device, driver } => {
                add_to_boot_list::inverse(BootListEntry { address, vendor, device, driver })
            }
            Self::RemoveFromBootList { address, vendor, device, driver } => {
                remove_from_boot_list::inverse(BootListEntry { address, vendor, device, driver })
            }
            Self::SetVgpu { address, from, to } => set_vgpu::inverse(address, from, to),
        })
    }
}

const fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
