//! Claims, journal, store, recovery, images and instances: everything that must survive a crash.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod action;
pub mod catalog;
mod claims;
mod consent;
mod devices;
mod engine;
pub mod guest_agent;
mod hardware;
mod image_requests;
mod images;
mod instance_requests;
mod instances;
mod journal;
mod lock;
mod marks;
mod observer;
mod operation;
mod own_state;
mod owners;
mod recovery;
mod refusals;
mod registrations;
mod resource_use;
mod resources;
mod store;
mod tags;
mod types;
mod vf_counts;
mod volumes;

pub use action::{Action, MachineStep};
pub use claims::{Access, Claims};
pub use consent::Consent;
pub use devices::Devices;
pub use engine::{Engine, WeakEngine};
pub use image::NewVolume;
pub use image::oci::{ContainerSource, PullOptions};
pub use image::{
    Admission, Allowance, Cancel, Limits as ImageLimits, RESERVE as DISK_RESERVE, Received,
};
pub use image_requests::{Container, ImageDisk, MadeOf, MakeImage, PullImage};
pub use images::{Images, Pruned};
pub use instance_requests::{
    CardWish, ChangeInstance, ChangeMachine, ChangeSeat, Changed, CreateInstance, DeviceWish,
    DiskWish, FirstBoot, NetworkWish, RomWish, WantedContent,
};
pub use instances::{
    Blocked, Closer, CopyPart, GuestInput, GuestOutput, GuestProcess, GuestSession, Instances,
    NO_USER_DATA, NotStarted, Outline, Restarts, SSH_PORTS, ScreenAccess,
};
pub use observer::{JournalEvent, Observer, Silent};
pub use operation::{Operation, OperationKind, OperationState, OperationStep, Outcome, StepState};
pub use own_state::own_state;
pub use recovery::{RecoveryTask, RecoveryTaskState};
pub use resource_use::{DiskUse, PciResource, ResourceUse, Resources, WholeGpu};
pub use store::backup::{Restored, backup, restore};
pub use types::{
    Attachment, AvailableDevice, AvailableFilter, ClaimRequest, ClaimStep, Claimed, Config,
    CreateVolume, Device, DeviceState, HealthState, Image, ImageSource, ImageStatus, ImportImage,
    Instance, InstanceDevice, InstanceGpu, InstanceState, JOURNAL_TIMEOUT, JournalKept,
    RecoveryReport, RegisterDevice, Returned, ReturnedDevice, VfConfiguration, Volume,
};
pub use vf_counts::VfCounts;
pub use volumes::Volumes;
