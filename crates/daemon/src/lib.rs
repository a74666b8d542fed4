//! The faces of the daemon. They parse, authenticate and render; what is done, the engine does.

mod hardware;
mod observer;
pub mod rest;
pub mod serve;

pub use observer::Boundaries;
