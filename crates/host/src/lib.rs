//! Linux: reads sysfs, procfs and devfs under one root; performs steps in worker processes.
//!
//! [`LinuxHost`] is the real [`model::Host`]. Reading a listing ([`inventory`]) neither wakes nor locks a device. A
//! [`worker`] process does everything that can block in the kernel, under a lock and a deadline; [`worker_pool`] is
//! this process's side of it.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod archive;
mod as_found;
mod block;
pub mod boot_list;
mod bus_path;
mod capacity;
mod card_links;
mod config_files;
mod cpu_layout;
mod detail;
mod device_lock;
mod disk;
mod fabric;
mod function_files;
mod gpu_modes;
mod health;
mod holders;
mod host_display;
mod host_lock;
mod huge_pools;
mod interrupts;
pub mod inventory;
mod kernel_files;
mod linux_host;
mod live;
mod loopback_filter;
mod mdevctl;
pub mod memory_limit;
mod modprobe;
mod neighbors;
mod node_access;
mod nodes;
mod number_list;
mod parallel;
pub mod platform;
mod problem;
mod process;
mod program;
pub mod record;
mod root;
pub mod rtnetlink;
mod sriov;
mod step;
mod sys;
mod systemd;
pub mod uevent;
mod usb;
mod virtual_machine;
pub mod vsock;
pub mod worker;
pub mod worker_pool;
mod xen;

pub use block::signatures;
pub use card_links::KernelLinks;
pub use device_lock::Locks;
pub use linux_host::{HostConfig, LinuxHost};
pub use live::{Follower, Live};
pub use loopback_filter::KernelFilter;
pub use root::{Dir, FileKind, OWN_EXECUTABLE, Root, Status};
