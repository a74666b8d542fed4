//! The faces of the daemon. They parse, authenticate and render; what is done, the engine does.

pub mod cdi;
pub mod door;
mod hardware;
mod leases;
mod look_after;
mod observer;
pub mod rest;
pub mod serve;

pub use observer::Boundaries;
