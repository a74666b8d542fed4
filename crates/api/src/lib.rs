//! The types of the REST API, and a client.
//!
//! Names and shapes are those of hypeman's API, so that its clients work unchanged. Handover's additional fields are
//! ignored by clients that do not know them.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod capabilities;
mod claim;
mod device;
mod error;
mod exec;
mod health;
mod image;
mod instance;
mod life;
#[cfg(feature = "openapi")]
mod network_forms;
mod placed;
mod planned_instance;
mod pod;
#[cfg(feature = "openapi")]
mod request_forms;
mod resources;
#[cfg(feature = "openapi")]
pub mod schema;
mod session;
mod start;
mod stats;
mod volume;
mod wait;
mod wish;

#[cfg(feature = "client")]
pub mod client;

pub use capabilities::{
    Capabilities, DefaultRuntime, HostPlatform, ImagePlatforms, NetworkModel, Runtime, Server,
};
pub use claim::{
    Attach, Claim, ClaimMember, ClaimPart, Cleared, CreateClaim, PlannedClaim, PrepareClaim,
    Released, RenewClaim, Report, ReturnDevices, ReturnedDevice, SetVfs, VfConfiguration,
};
pub use device::{
    AttachDevice, AttachedDevice, AvailableDevice, BindDevice, CreateDevice, Device, DeviceType,
    ResetDevice, UnbindDevice,
};
pub use error::{ErrorBody, ErrorDetails};
pub use exec::{Exec, ExecResult, SetPassword};
pub use health::{Health, HealthStatus, Recovering, RecoveringState};
pub use image::{
    ContainerInfo, Image, ImportImage, MakeImage, NvidiaModule, PrunedImages, ResizeImage,
};
pub use instance::{
    Cpu, CreateInstance, Display, DisplayAccess, Gpu, GpuRequest, Instance, Network,
    NetworkRequest, Rom, UpdateInstance,
};
pub use life::{Autostart, RestartPolicy, RestartStatus};
#[cfg(feature = "openapi")]
pub use network_forms::NewCard;
pub use placed::{GuestNode, Placed};
pub use planned_instance::{InstanceOrPlan, PlannedChoice, PlannedInstance};
pub use pod::{CreatePods, Pods};
pub use resources::{
    Allocation, DiskBreakdown, GpuDevice, GpuProfile, GpuResources, PciResource, Resource,
    Resources,
};
pub use session::{
    CopyDirection, CopyHeader, CopyMessage, CopyRequest, ExecControl, ExecEnd, ExecStart, PathInfo,
    STDERR, STDOUT, TerminalSize,
};
pub use start::StartInstance;
pub use stats::InstanceStats;
pub use volume::{
    AttachVolume, BlockDisk, Cdrom, CreateVolume, NewDisk, ResizeVolume, Volume, VolumeAttachment,
    VolumeMount,
};
pub use wait::WaitOutcome;
pub use wish::Wish;

/// Tags of devices, images, volumes and instances.
pub type Tags = std::collections::BTreeMap<String, String>;
