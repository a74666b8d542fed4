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
//! | `0x008` | read, write | the doorbell: a write of any value raises an interrupt (of a display function); reads how often that happened since the last reset |
//! | from `0x1000` | read, write | scratch memory, cleared by a reset |
//!
//! What QEMU's `vfio-user-pci` makes of it (seen with 11.1):
//! - Configuration space is passed on, and by the emulated host's VFIO again: the serial number in the extended part is
//!   seen by a machine inside. The BARs' addresses are QEMU's own copy, which it goes on showing when the function is
//!   gone; the ids, the command register and the serial number then read all ones.
//! - An FLR comes as a write to Device Control. A reset of the machine or of the bus above comes as a message; QEMU's
//!   root ports do not report an active link afterwards, so Linux calls each bus reset failed (`ENOTTY`), here and
//!   with QEMU's own devices, although the function was reset.
//! - The BARs are not mapped: each access is a message, also from a machine inside the emulated host.

pub mod bars;
pub mod config_space;
pub mod device;
pub mod faults;
pub mod interrupts;
pub mod server;
pub mod settings;

pub use server::{Listening, serve};
pub use settings::{Bar, Fault, Settings};
