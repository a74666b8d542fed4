//! How machines are started: a VMM for each machine, under a uid and limits of its own, that outlives the daemon.
//!
//! [`process`] has what is common to every VMM that is one process of ours per machine: directory and lock, watching,
//! adopting and ending it, files and console. It asks a [`process::Vmm`] for the rest, and each VMM implements that trait
//! in a folder of its own ([`qemu`]). [`launch`] is the process that gives up its privileges and becomes the VMM.
//!
//! A service that owns the processes of its machines itself, such as libvirt, needs nothing of [`process`]: its folder
//! implements [`model::Launcher`] directly.

pub mod launch;
pub mod process;
pub mod qemu;
