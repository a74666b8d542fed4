//! Claims, journal, store, recovery, images and instances: everything that must survive a crash.

mod engine;
mod observer;
mod types;

pub use engine::Engine;
pub use observer::{Action, JournalEvent, MachineStep, Observer, Silent};
pub use types::{
    AvailableDevice, AvailableFilter, Config, CreateInstance, Device, Image, ImageSource,
    ImageStatus, ImportImage, Instance, InstanceState, Operation, OperationStep, RecoveryReport,
    RegisterDevice, ResourceUse, Resources,
};
