//! Claims, journal, store, recovery, images and instances: everything that must survive a crash.

mod action;
pub mod catalog;
mod choose;
mod claims;
mod compare;
mod core;
mod devices;
mod engine;
mod give_back;
mod images;
mod instances;
mod look_after;
mod marks;
mod observer;
mod operation;
mod perform;
mod recover;
mod refusals;
mod resources;
mod store;
mod types;
mod undo;
mod vf_counts;
mod watch;

pub use action::{Action, MachineStep};
pub use claims::Access;
pub use engine::{Engine, WeakEngine};
pub use observer::{JournalEvent, Observer, Silent};
pub use operation::{Operation, OperationKind, OperationState, OperationStep, Outcome, StepState};
pub use types::{
    AvailableDevice, AvailableFilter, ClaimRequest, ClaimStep, Claimed, Config, CreateInstance,
    Device, DeviceState, HealthState, Image, ImageSource, ImageStatus, ImportImage, Instance,
    InstanceGpu, InstanceState, JOURNAL_TIMEOUT, Recovered, RecoveredDevice, RecoveryReport,
    RegisterDevice, ResourceUse, Resources, VfConfiguration,
};
