//! What the kernel tells of its devices as they come, change and go (uevents), as values and from where they come.

mod message;
mod socket;

pub use message::Uevent;
pub use socket::{Received, Socket};
