//! vGPUs: their names and memory, the room that a GPU has for more of them, and how many of which profile are left.

mod memory;
mod room;
mod slots;

pub use crate::profile_name::{is_named, own_name};
pub use room::Rooms;
pub use slots::{VgpuProfile, VgpuSlots};
