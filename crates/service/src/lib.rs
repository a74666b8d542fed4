//! What all interfaces share: checks requests, calls the engine, and renders answers in the types of the API.
//!
//! An interface (REST, the command line without a daemon) parses and authenticates; the engine does the work.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod boundaries;
pub mod cdi;
pub mod claims;
pub mod console;
mod container;
mod cpu;
pub mod devices;
mod disks;
pub mod display;
pub mod exec;
pub mod guest;
pub mod host;
pub mod hot_plug;
pub mod images;
pub mod instances;
mod life;
pub mod local_files;
mod memory;
mod networks;
mod open;
pub mod outline;
pub mod pods;
pub mod reconcile;
pub mod refusals;
pub mod render;
mod roms;
mod seat;
pub mod sriov;
pub mod stats;
pub mod templates;
pub mod volumes;

pub use boundaries::Boundaries;
pub use open::{EngineSetup, Unrecovered};
