//! Machines: what a launcher starts, and how it identifies a running machine.
//!
//! A [`MachineSpec`] describes the machine independently of the VMM: each launcher translates it.

mod access;
mod block;
mod choice;
mod container;
mod cpu;
mod disks;
mod display;
mod execution;
mod forward;
mod guest_bus;
mod huge_pages;
mod life;
mod network;
mod options;
mod part;
mod part_key;
mod passt;
mod placement;
mod plug;
mod rom;
mod seat;
mod usage;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Address, Assembly, Part, Partition};

pub use access::DeviceAccess;
pub use block::{
    BlockDevice, BlockError, BlockFile, BlockIdentity, BlockNumber, BlockUse, HostBlock,
    block_has_data, block_in_use, check_block_name,
};
pub use choice::Choice;
pub use container::{ContainerBoot, ContainerRun, HostKernel};
pub use cpu::{Cpu, GuestOs, Topology};
pub use disks::{DiskBus, DiskContent, DiskFile, GuestDisk, check_serial, is_serial};
pub use display::{Display, DisplayProtocol, Secret};
pub use execution::{Execution, Halt};
pub use forward::{Forward, ForwardError, Protocol};
pub use guest_bus::{GuestBus, GuestBusError};
pub use huge_pages::{HugeMemory, HugePagesUse, HugePool};
pub use life::{Autostart, AutostartChange, Life, Restart, RestartChange, RestartPolicy};
pub use network::{CardLink, NetworkCard, check_interface_name};
pub use options::{Firmware, MachineOptions, Seed};
pub use part::{NewPart, PartPlug};
pub use part_key::{PartKey, PartKind, PartPlace};
pub use passt::PasstKind;
pub use placement::{
    Cell, CpuLayout, GuestRoot, HostCpu, NodeDevice, Placement, PlacementUse, Placing,
};
pub use plug::{
    MOST_SPARE_PORTS, Moving, MovingParts, Plug, PluggedFunction, SparePorts, USUAL_SPARE_PORTS,
    Unplugged,
};
pub use rom::{Rom, check_rom};
pub use seat::{MOST_USB, RestartUnits, Seat, UsbDevice, UsbWish};
pub use usage::{DiskUsage, NetworkUsage, Usage};

/// A machine to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The instance's id; also the machine's SMBIOS uuid.
    pub id: Uuid,
    /// Its name, for the process list.
    pub name: String,
    /// The user that the VMM runs as, a different one for each machine.
    pub uid: u32,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory: u64,
    /// The huge pages that it is in, if it is.
    #[serde(default)]
    pub huge_pages: Option<HugeMemory>,
    /// Where it runs on the host, if it is placed.
    #[serde(default)]
    pub placement: Option<Placement>,
    /// The kernel to boot directly; without one, the firmware boots the disk.
    pub kernel: Option<KernelBoot>,
    /// The root disk.
    pub disk: Option<MachineDisk>,
    /// A container image as its root, in place of a root disk.
    #[serde(default)]
    pub container: Option<ContainerBoot>,
    /// Its other disks, with their files, in the order of `options.disks`.
    #[serde(default)]
    pub disks: Vec<DiskFile>,
    /// The devices handed over, one guest slot each.
    pub slots: Vec<GuestSlot>,
    /// How the VMM opens them.
    #[serde(default)]
    pub access: DeviceAccess,
    /// The ports for devices that it can get while it runs.
    #[serde(default)]
    pub spare: SparePorts,
    /// The USB devices of the host that it gets.
    #[serde(default)]
    pub usb: Vec<UsbDevice>,
    /// Firmware, network cards, seed, other disks.
    pub options: MachineOptions,
}

/// A kernel that the VMM loads itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelBoot {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initial ramdisk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
}

/// Formats of disk images. The format is always explicit, never probed: a guest could write the header of another
/// format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// A plain byte image.
    Raw,
    /// The copy-on-write format QCOW2, version 2 or 3.
    Qcow2,
}

impl DiskFormat {
    /// The format's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// A root disk: the machine's copy-on-write layer over an imported image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineDisk {
    /// The imported image, never written.
    pub base: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// The size that the guest sees, if larger than the image.
    pub size: Option<u64>,
}

/// One guest slot: the functions of one assembly. A VMM with single-function slots uses several slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSlot {
    /// The number of its port among those for devices. A device keeps its port, and so its address in the guest, when others
    /// come and go.
    #[serde(default)]
    pub port: u32,
    /// The bus that its port leads to in the guest, if it was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<GuestBus>,
    /// The functions in it.
    pub functions: Vec<GuestFunction>,
}

/// The host device of a guest function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestSource {
    /// A function of the host.
    Function(Address),
    /// A mediated device.
    Mdev(Uuid),
}

impl GuestSource {
    /// The host's function, if it is one.
    #[must_use]
    pub const fn function(self) -> Option<Address> {
        match self {
            Self::Function(address) => Some(address),
            Self::Mdev(_) => None,
        }
    }
}

/// A function in a guest slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFunction {
    /// The host device.
    pub source: GuestSource,
    /// The function number in the guest.
    pub function: u8,
}

impl GuestSlot {
    /// Places functions of one slot: with their own numbers if they include function 0, else counted from 0, because a
    /// guest does not find a slot without function 0 (PCI 3.0, 3.2.2.3.4).
    #[must_use]
    pub fn place(addresses: impl IntoIterator<Item = Address>) -> Self {
        let mut addresses: Vec<Address> = addresses.into_iter().collect();
        addresses.sort();
        let one_slot = addresses.windows(2).all(|pair| pair[0].same_slot(pair[1]));
        let keep = one_slot && addresses.first().is_some_and(|first| first.function() == 0);
        let functions = addresses
            .into_iter()
            .zip(0u8..8)
            .map(|(host, turn)| GuestFunction {
                source: GuestSource::Function(host),
                function: if keep { host.function() } else { turn },
            })
            .collect();
        Self { port: 0, bus: None, functions }
    }

    /// The same in another port.
    #[must_use]
    pub fn at(self, port: u32) -> Self {
        Self { port, ..self }
    }

    /// Whether this is one of its host devices.
    #[must_use]
    pub fn has(&self, source: GuestSource) -> bool {
        self.functions.iter().any(|function| function.source == source)
    }

    /// The slot for the guests of an assembly.
    #[must_use]
    pub fn for_assembly(assembly: &Assembly) -> Self {
        Self::place(assembly.guests().map(|member| member.address))
    }

    /// The host's functions in it.
    pub fn addresses(&self) -> impl Iterator<Item = Address> {
        self.functions.iter().filter_map(|function| function.source.function())
    }

    /// The slot for a part of a claim.
    #[must_use]
    pub fn for_part(part: &Part) -> Self {
        match part.partition.as_ref().and_then(Partition::mdev) {
            Some(uuid) => {
                let source = GuestSource::Mdev(uuid);
                Self { port: 0, bus: None, functions: vec![GuestFunction { source, function: 0 }] }
            }
            None => Self::place(part.guests().map(|member| member.address)),
        }
    }
}

/// One run of a machine, from start to end. Another run of the same machine has another handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineHandle {
    /// The instance's id.
    pub id: Uuid,
    /// The run.
    #[serde(flatten)]
    pub run: MachineRun,
    /// The id of the boot in which it runs.
    pub boot_id: String,
}

/// Identifies a run of a machine within one boot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MachineRun {
    /// The launcher started this process.
    Process(VmmProcess),
    /// A service such as libvirt starts and owns the process.
    Service {
        /// The launcher's identifier of the run.
        run: String,
    },
}

/// A process that runs a machine. The pid alone does not identify it: the kernel reuses pids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VmmProcess {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot ([`ProcessStat`](crate::ProcessStat)).
    pub start_time: u64,
}

impl MachineHandle {
    /// The process that the launcher started; `None` if a service owns it.
    #[must_use]
    pub const fn process(&self) -> Option<VmmProcess> {
        match self.run {
            MachineRun::Process(process) => Some(process),
            MachineRun::Service { .. } => None,
        }
    }

    /// The pid of that process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process().map(|process| process.pid)
    }
}

/// Whether a machine runs. Unknown never means gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It runs.
    Running(MachineHandle),
    /// Its processes have exited.
    Gone,
    /// Unknown, for this reason.
    Unknown(String),
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The VMM's exit status, if known. It is unknown if the VMM is not a child of this process: after a restart of the
    /// daemon, or if a service owns it.
    pub code: Option<i32>,
}

/// How a machine ended that was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutDown {
    /// How it ended.
    pub exit: Exit,
    /// Whether its guest shut down in time. Otherwise the machine was killed.
    pub by_guest: bool,
}

/// Whether a VMM can be used on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// Whether it can be used.
    pub available: bool,
    /// Its version.
    pub version: Option<String>,
    /// What runs guest code: `kvm`, or the VMM's name for an emulator.
    pub accelerator: Option<String>,
    /// Why it cannot be used, and what to do.
    pub reason: Option<String>,
    /// How to install it.
    pub remedy: Option<String>,
}
