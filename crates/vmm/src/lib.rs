//! Starts machines: one VMM process per machine, with its own uid and limits, that outlives the daemon.
//!
//! [`process`] has what is common to all VMMs that run as one child process per machine: directory and lock, watching,
//! adopting and ending it, files and console. A [`process::Vmm`] provides the rest; each VMM implements that trait in
//! its own directory ([`qemu`]). [`launch`] is the process that drops its privileges and becomes the VMM.
//!
//! A launcher for a service that owns the processes of its machines, such as libvirt, does not need [`process`]: it
//! implements [`model::Launcher`] directly.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod bars;
pub mod launch;
pub mod process;
pub mod qemu;
mod seed;
