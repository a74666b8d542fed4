//! Commands in L1: an agent inside runs them, and all their streams share one serial port.
//!
//! A virtio serial port needs no network in L1, and works before anything else does. [`server`] is the end in L1
//! (this very program, shared into it), [`client`] the end on the host. A running lab offers its agent to other
//! programs on the host through [`relay`], by the same frames.

pub mod client;
pub mod frame;
pub mod relay;
pub mod server;

pub use client::{Client, Session};
pub use frame::{Frame, Kind, Start};
