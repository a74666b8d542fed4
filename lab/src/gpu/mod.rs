//! The emulated GPU: a PCI Express function, served to QEMU over a socket (vfio-user), that can be handed over,
//! reset, lost and given back like a real one, on a machine that has none.
//!
//! It computes nothing. What it has is what a hand-over is about: ids, BARs of real sizes, capabilities, a function
//! level reset that clears what was written, an interrupt, and faults on demand. An HD audio function is the same
//! with other [`Settings`].
//!
//! The registers, at the start of BAR 0 (see [`bars`]):
//!
//! | offset | | |
//! |---|---|---|
//! | `0x000` | read | the id register, [`Settings::boot0`] |
//! | `0x004` | read | how many resets the function has seen since the server started; a reset does not clear it |
//! | `0x008` | read, write | the doorbell: a write of any value raises an interrupt; reads how often that happened since the last reset |
//! | from `0x1000` | read, write | scratch memory, cleared by a reset |

pub mod bars;
pub mod config_space;
pub mod device;
pub mod faults;
pub mod server;
pub mod settings;

pub use server::{Listening, serve};
pub use settings::{Bar, Fault, Settings};
