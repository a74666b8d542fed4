//! Linux: reads sysfs, procfs and devfs under one root; performs steps in worker processes.
//!
//! [`LinuxHost`] is the real [`model::Host`]. What it reads for a listing ([`inventory`]) neither wakes nor locks a
//! device. Everything that can block in the kernel is done by a [`worker`] process, under a lock and a deadline.

mod as_found;
mod capacity;
mod detail;
mod examining;
mod function_files;
mod health;
mod holders;
mod host_lock;
pub mod inventory;
mod linux_host;
mod live;
mod mdevctl;
pub mod memory_limit;
mod node_access;
mod nodes;
mod place;
pub mod platform;
mod problem;
mod process;
mod program;
pub mod record;
pub mod reserve;
mod root;
mod rtnetlink;
mod spread;
mod step;
mod sys;
mod systemd;
pub mod uevent;
pub mod worker;

pub use linux_host::{HostConfig, LinuxHost};
pub use live::{Follower, Live};
pub use root::{Dir, FileKind, OWN_EXECUTABLE, Root, Status};
