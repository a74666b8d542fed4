//! One change to the host: its check, its inverse, its deadline, and whether it may be replayed.

mod facts;
mod restoring;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Address, Id, PowerControl, VfSettings};

pub use restoring::restoring;

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

/// Which node of VFIO's is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VfioNode {
    /// The device's own, `/dev/vfio/devices/vfioN`, for iommufd.
    Device,
    /// The group of a mediated device, `/dev/vfio/N`.
    MdevGroup(Uuid),
}

/// How a link was when its device was well: after a reset it must not be slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkBaseline {
    /// Tenths of GT/s.
    pub speed: u16,
    /// Lanes.
    pub width: u8,
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
    /// before. It has no inverse, and is not replayed: a machine may hold the function by then.
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
    ReserveAtBoot {
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
    UnreserveAtBoot {
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

/// Whether a step may be made again when it cannot be told whether it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It shows on the host whether it was made, and making it twice does no harm.
    Safe,
    /// It does not show, and making it again could hit somebody else: a person decides.
    Ask,
}
