//! Commands in L1: an agent in L1 runs them, and all their streams share one serial port.
//!
//! A virtio serial port needs no network in L1, and works early. [`server`] is the side in L1 (this program, shared
//! into L1), [`client`] the side on the host. A running lab offers its agent to other programs on the host through
//! [`relay`], with the same frames.

pub mod client;
pub mod frame;
pub mod relay;
pub mod server;

pub use client::{Client, Session};
pub use frame::{Frame, Kind, Start};
