//! The kernel's uevents: messages about devices that are added, changed or removed, and their socket.

mod message;
mod socket;

pub use message::Uevent;
pub use socket::{Received, Socket};
