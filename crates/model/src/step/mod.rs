//! One change to the host: its check, its inverse and its deadline. Each kind has a file of its name here, and in `host`
//! and `sim`.

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
mod set_mdev_attribute;
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

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::boot_list::BootListEntry;
use crate::{Address, Id, LinkBaseline, Mark, MdevDefinition, PowerControl, VfSettings};

pub use facts::{Binding, LocksBesides, StepFacts, UndoOrder, UndoStage, WhenAbsent};
pub use restoring::restoring;
pub use values::{Lock, NodeAccess, Observed, VfioNode};

/// One change to the host's devices. It carries what it replaces, so that its inverse is another step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Mark a function as a claim's, where it is nobody's: another Handover, with another state directory, then does not
    /// take it.
    Mark {
        /// The function.
        address: Address,
        /// Whose it is then.
        mark: Mark,
    },
    /// Take the mark of a claim away.
    Unmark {
        /// The function.
        address: Address,
        /// Whose it is before.
        mark: Mark,
    },
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
    /// Change who may open a node of VFIO's whose number is known only once it is there.
    GrantNode {
        /// The function, or the parent of the mediated device.
        address: Address,
        /// Which node.
        node: VfioNode,
        /// What is there before.
        from: NodeAccess,
        /// What is there after.
        to: NodeAccess,
    },
    /// Ask a process that uses the function to end (SIGTERM), and wait until it is gone. It is never killed, and
    /// never asked twice: another process may have its number by then.
    Evict {
        /// The function.
        address: Address,
        /// The process.
        pid: u32,
        /// When it started, in the kernel's ticks since the boot (field 22 of `/proc/PID/stat`).
        started: u64,
        /// The process for a person.
        user: String,
    },
    /// Set the persistence mode of one NVIDIA GPU (`nvidia-smi -i ADDRESS -pm`).
    SetPersistence {
        /// The function.
        address: Address,
        /// Whether it is on before.
        from: bool,
        /// Whether it is on after.
        to: bool,
    },
    /// Start or stop a unit, by systemd's D-Bus.
    SetUnit {
        /// The function for which it is done.
        address: Address,
        /// The unit.
        unit: String,
        /// Whether it is active before.
        from: bool,
        /// Whether it is active after.
        to: bool,
    },
    /// Reset the function by the kernel's `reset`, and see that it answers afterwards and that its link is as good as
    /// before. It has no inverse, and is never made again: a machine may hold the function by then.
    Reset {
        /// The function.
        address: Address,
        /// All functions that the reset hits, this one among them, by address.
        domain: Vec<Address>,
        /// Its link before.
        link: Option<LinkBaseline>,
    },
    /// Change the number of virtual functions, through 0 as the kernel demands, and wait for all of them.
    SetVfCount {
        /// The physical function.
        address: Address,
        /// How many there are before.
        from: u16,
        /// How many there are after.
        to: u16,
    },
    /// Write `sriov_drivers_autoprobe`: whether new virtual functions are given to drivers.
    SetAutoprobe {
        /// The physical function.
        address: Address,
        /// What is there before.
        from: bool,
        /// What is there after.
        to: bool,
    },
    /// Tell a physical function what one of its virtual functions may do, by netlink.
    SetVf {
        /// The virtual function.
        address: Address,
        /// Its physical function.
        parent: Address,
        /// Its number among those.
        index: u16,
        /// What is there before; only what `to` sets.
        from: VfSettings,
        /// What is there after.
        to: VfSettings,
    },
    /// Make a mediated device.
    CreateMdev {
        /// Its parent.
        address: Address,
        /// Its name.
        uuid: Uuid,
        /// Its type.
        type_id: String,
    },
    /// Remove a mediated device. Waits for a VMM that has it open, so never while one has.
    RemoveMdev {
        /// Its parent.
        address: Address,
        /// Its name.
        uuid: Uuid,
        /// Its type.
        type_id: String,
    },
    /// Write an attribute of a mediated device. It goes with the device, so there is no inverse.
    SetMdevAttribute {
        /// Its parent.
        address: Address,
        /// Its name.
        uuid: Uuid,
        /// The attribute, a path below the device such as `nvidia/vgpu_params`.
        name: String,
        /// What is written.
        value: String,
    },
    /// Write mdevctl's definition of a mediated device, where there is none. It lasts over a boot, as no other step does.
    DefineMdev {
        /// Its parent.
        address: Address,
        /// Its name.
        uuid: Uuid,
        /// Its type.
        type_id: String,
        /// Attributes to write after it is made, in order.
        attributes: Vec<(String, String)>,
    },
    /// Take a definition away that is still as it was written.
    UndefineMdev {
        /// Its parent.
        address: Address,
        /// Its name.
        uuid: Uuid,
        /// Its type.
        type_id: String,
        /// Its attributes, in order.
        attributes: Vec<(String, String)>,
    },
    /// Put a function on the list of those that the initial ramdisk gives to machines from the next boot on. It lasts over a
    /// boot; the ramdisk has the list that was there when it was last made.
    #[serde(alias = "reserve_at_boot")]
    AddToBootList {
        /// The function.
        address: Address,
        /// The vendor that it must still have then.
        vendor: Id,
        /// The device id that it must still have.
        device: Id,
        /// The vfio driver that gets it.
        driver: String,
    },
    /// Take a function off that list, where it is as it was put there.
    #[serde(alias = "unreserve_at_boot")]
    RemoveFromBootList {
        /// The function.
        address: Address,
        /// Its vendor.
        vendor: Id,
        /// Its device id.
        device: Id,
        /// The vfio driver that would get it.
        driver: String,
    },
    /// Make a virtual function a vGPU, or free it (0), by `nvidia/current_vgpu_type`. Freeing is tried for up to 10 s.
    SetVgpu {
        /// The virtual function.
        address: Address,
        /// The type before; 0 is none.
        from: u32,
        /// The type after.
        to: u32,
    },
}

/// The kinds of steps, each with the module of its facts: one line a kind.
macro_rules! kinds {
    ($($kind:ident => $home:ident,)+) => {
        /// A kind of step: a [`Step`] without what it carries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum StepKind {
            $(#[doc = concat!("[`Step::", stringify!($kind), "`].")] $kind,)+
        }

        impl StepKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// What is fixed of it.
            #[must_use]
            pub const fn facts(self) -> StepFacts {
                match self {
                    $(Self::$kind => $home::FACTS,)+
                }
            }
        }

        impl Step {
            /// Its kind.
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
}

/// What tells two changes of one kind with one function apart.
#[derive(PartialEq)]
enum Part<'a> {
    /// Nothing: they change the same.
    Whole,
    Mdev(Uuid),
    Unit(&'a str),
}

impl Step {
    /// What is fixed of its kind.
    #[must_use]
    pub const fn facts(&self) -> StepFacts {
        self.kind().facts()
    }
}

/// What depends on what a step carries: each kind's answer is in its file.
impl Step {
    /// The function that the step is about, if it is about one.
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
            | Self::SetVgpu { address, .. } => Some(*address),
        }
    }

    /// What of its function it changes, where that is not the only one of its kind.
    fn part(&self) -> Part<'_> {
        match self {
            Self::CreateMdev { uuid, .. }
            | Self::RemoveMdev { uuid, .. }
            | Self::DefineMdev { uuid, .. }
            | Self::UndefineMdev { uuid, .. }
            | Self::GrantNode { node: VfioNode::MdevGroup(uuid), .. } => Part::Mdev(*uuid),
            Self::SetUnit { unit, .. } => Part::Unit(unit),
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
            // Not undone one by one: they go with their device.
            | Self::SetMdevAttribute { .. }
            | Self::AddToBootList { .. }
            | Self::RemoveFromBootList { .. }
            | Self::SetVgpu { .. } => Part::Whole,
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

    /// The step in words, for journals, plans and progress.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Mark { address, .. } => mark::describe(*address),
            Self::Unmark { address, .. } => unmark::describe(*address),
            Self::LoadModule { module } => load_module::describe(module),
            Self::SetOverride { address, to, .. } => {
                set_override::describe(*address, to.as_deref())
            }
            Self::Unbind { address, driver } => unbind::describe(*address, driver),
            Self::Bind { address, driver } => bind::describe(*address, driver),
            Self::Return { address, driver } => r#return::describe(*address, driver),
            Self::SetPower { address, to, .. } => set_power::describe(*address, *to),
            Self::GrantGroup { group, to, .. } => grant_group::describe(*group, *to),
            Self::GrantNode { address, node, to, .. } => grant_node::describe(*address, *node, *to),
            Self::Evict { address, user, .. } => evict::describe(*address, user),
            Self::SetPersistence { address, to, .. } => set_persistence::describe(*address, *to),
            Self::SetUnit { unit, to, .. } => set_unit::describe(unit, *to),
            Self::Reset { address, .. } => reset::describe(*address),
            Self::SetVfCount { address, to, .. } => set_vf_count::describe(*address, *to),
            Self::SetAutoprobe { address, to, .. } => set_autoprobe::describe(*address, *to),
            Self::SetVf { address, parent, index, to, .. } => {
                set_vf::describe(*address, *parent, *index, to)
            }
            Self::CreateMdev { address, uuid, type_id } => {
                create_mdev::describe(*address, *uuid, type_id)
            }
            Self::RemoveMdev { address, uuid, .. } => remove_mdev::describe(*address, *uuid),
            Self::SetMdevAttribute { uuid, name, value, .. } => {
                set_mdev_attribute::describe(*uuid, name, value)
            }
            Self::DefineMdev { uuid, .. } => define_mdev::describe(*uuid),
            Self::UndefineMdev { uuid, .. } => undefine_mdev::describe(*uuid),
            Self::AddToBootList { address, driver, .. } => {
                add_to_boot_list::describe(*address, driver)
            }
            Self::RemoveFromBootList { address, .. } => remove_from_boot_list::describe(*address),
            Self::SetVgpu { address, to, .. } => set_vgpu::describe(*address, *to),
        }
    }
}

const fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
