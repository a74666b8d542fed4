//! Claims, journal, store, recovery, images and instances: everything that must survive a crash.

mod observer;
mod types;

pub use observer::{Action, JournalEvent, MachineStep, Observer, Silent};
pub use types::{
    AvailableDevice, AvailableFilter, Config, CreateInstance, Device, Image, ImageSource,
    ImageStatus, ImportImage, Instance, InstanceState, RecoveryReport, RegisterDevice, ResourceUse,
    Resources,
};
