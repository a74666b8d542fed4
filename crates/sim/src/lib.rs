//! A host and a launcher in memory, with the kernel's rules and seeded faults.
//!
//! Both are shared by `Arc` and outlive an engine, as the kernel and the machines outlive a daemon: a second engine on
//! the same state sees what the first one left.

mod agent;
mod build;
mod fault;
mod guest;
mod hardware;
mod host;
mod kernel;
mod launcher;
mod port;
pub mod servers;
mod split_mix;
mod turns;
mod world;

pub use agent::SimAgent;
pub use build::{Card, board, desktop, gpus, server, workstation};
pub use fault::{Fault, When};
pub use guest::SimGuest;
pub use hardware::{Desktop, Hardware, MdevKind, MdevParent, PhysicalFunction, VgpuBoard};
pub use host::{BLOCKS, SimHost, Snapshot};
pub use kernel::{FunctionState, MdevState, ResetDone};
pub use launcher::SimLauncher;

/// The panic payload of a process that ended between two changes of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Died;
