//! The only home of `unsafe` in the guest: what neither `std` nor `rustix` has.
#![allow(unsafe_code)]

mod exec;
mod signals;
mod udp;
mod vsock;

pub use exec::execute;
pub use signals::{Signals, kill_all, kill_group, kill_one, unblock_signals};
pub use udp::udp_socket;
pub use vsock::listen;
