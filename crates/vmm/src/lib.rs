//! How a machine is started: QEMU, under a uid and limits of its own, watched by pidfd and QMP.
//!
//! Machines are strangers, and they outlive the daemon. So a VMM is started by [`launcher::main`], which gives it a
//! session, a control group, limits and a user of its own; it is known again by a lock that it holds for its whole life
//! and by the record of its process ([`identity`]), is watched and signalled only through a pidfd ([`process`]), and
//! hears from us over a socket that only root reaches.

mod identity;
pub mod launcher;
mod process;
pub mod qemu;
