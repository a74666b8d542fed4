//! Handover's pure core: addresses, inventory, assemblies, claims, plans, and the ports [`Host`] and [`Launcher`].
//!
//! Nothing here does I/O. Choosing and planning are pure functions, so that they can be tested with snapshots and
//! properties, and printed before anything changes.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod address;
mod assembly;
mod attach;
pub mod boot_list;
mod card_links;
pub mod catalog;
pub mod choose;
mod claim;
mod clock;
mod container_image;
pub mod doctor;
mod duration;
mod fabric;
mod fingerprint;
mod grpc;
mod holder;
mod host_display;
mod host_error;
mod host_facts;
mod host_lock;
mod ids;
mod inventory;
mod launch_error;
mod loopback_filter;
mod machine;
mod mark;
mod mistake;
mod monitor;
mod names;
pub mod near_miss;
mod own_state;
mod partition;
mod password;
pub mod plan;
mod ports;
mod process_stat;
mod profile_name;
mod refusal;
mod scan;
pub mod shown;
mod step;
pub mod topology;
pub mod vgpu;

pub use address::{Address, AddressError};
pub use assembly::{Assembly, Member, VIRTUAL_IOMMU, no_such_function, power_cycle};
pub use attach::Attachment;
pub use card_links::{CardLinks, LinkError, OpenCard};
pub use claim::{Claim, ClaimState, ClaimedMember, Owner, Part, Role};
pub use clock::Moment;
pub use container_image::{
    ContainerConfig, ContainerContents, ContainerImage, ImageKernel, NvidiaModule,
};
pub use duration::{format_duration, parse_duration};
pub use fabric::{FabricSet, FabricSets};
pub use fingerprint::{AsFound, Fingerprint, LinkBaseline, PowerControl};
pub use grpc::GrpcStatus;
pub use holder::{Holder, HolderKind};
pub use host_display::{FirmwareFramebuffer, HostDisplay, UserPlace, is_broker};
pub use host_error::HostError;
pub use host_facts::{Capacity, Checked};
pub use host_lock::{HostLock, HostLockError, LockHolder};
pub use ids::{Class, Id, Kind};
pub use inventory::{
    Acs, Bar, Change, ChangeKind, Detail, ErrorStage, Function, GpuModes, Group, Inventory, Link,
    Mdev, MdevType, MigInstance, Node, Nodes, NumaNode, PortType, Power, ResetDomain, ResetReach,
    ResizableBar, VfioSupport, VgpuType, VgpuTypes, VirtualFunctions, is_vfio, on_or_off,
    short_titles,
};
pub use launch_error::LaunchError;
pub use loopback_filter::{FilterError, LoopbackFilter, NameServerAlias};
pub use machine::{
    Autostart, AutostartChange, Availability, BlockDevice, BlockError, BlockFile, BlockIdentity,
    BlockNumber, BlockUse, CardLink, Cell, Choice, ContainerBoot, ContainerRun, Cpu, CpuLayout,
    DeviceAccess, DiskBus, DiskContent, DiskFile, DiskFormat, DiskUsage, Display, DisplayProtocol,
    Execution, Exit, Firmware, Forward, ForwardError, GuestBus, GuestBusError, GuestDisk,
    GuestFunction, GuestOs, GuestRoot, GuestSlot, GuestSource, Halt, HostBlock, HostCpu,
    HostKernel, HugeMemory, HugePagesUse, HugePool, KernelBoot, Life, MOST_SPARE_PORTS, MOST_USB,
    MachineDisk, MachineHandle, MachineOptions, MachineRun, MachineSpec, Moving, MovingParts,
    NetworkCard, NetworkUsage, NewPart, NodeDevice, PartKey, PartKind, PartPlace, PartPlug,
    PasstKind, Placement, PlacementUse, Placing, Plug, PluggedFunction, Presence, Protocol,
    Restart, RestartChange, RestartPolicy, RestartUnits, Rom, Seat, Secret, Seed, ShutDown,
    SparePorts, Topology, USUAL_SPARE_PORTS, Unplugged, Usage, UsbDevice, UsbWish, VmmProcess,
    block_has_data, block_in_use, check_block_name, check_interface_name, check_rom, check_serial,
    is_serial,
};
pub use mark::{Mark, MarkError};
pub use mistake::{Mistake, Mistakes, TextSpan};
pub use monitor::HostMonitor;
pub use names::{
    check_device_name, check_image_name, check_instance_name, check_volume_name, format_size,
    parse_size,
};
pub use own_state::{OwnState, Share, Unhealthy};
pub use partition::{Mac, MacError, MdevDefinition, Mechanism, Partition, VfSettings};
pub use password::check_password_hash;
pub use ports::{Disk, Host, KnownMachine, Launcher};
pub use process_stat::ProcessStat;
pub use refusal::{Code, Refusal};
pub use scan::Scan;
pub use step::{
    Binding, Lock, LocksBesides, NodeAccess, Observed, Step, StepFacts, StepKind, UndoOrder,
    UndoStage, VfioNode, WhenAbsent, restoring,
};
pub use vgpu::{VgpuProfile, VgpuSlots};
