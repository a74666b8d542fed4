//! The driver that needs nothing but this workspace: it mutates the seeds of a target for some seconds.
//!
//! Each target runs in a process of its own, which writes down every input before it reads it: so an input that kills the
//! process (a stack overflow, too much memory) or hangs it is known too.

mod child;
mod found;
mod mutate;
mod parent;
mod random;

pub use child::{Order, work};
pub use parent::{replay, run};
