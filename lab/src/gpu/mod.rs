//! The emulated GPU: a PCI Express function, served to QEMU over a socket (vfio-user), that can be handed over, reset,
//! lost and returned like a real one.
//!
//! It computes nothing. It has what matters for a hand-over: ids, BARs of real sizes, capabilities, a function level
//! reset that clears its memory, an interrupt, and faults on demand. An HD audio function is the same with other
//! [`Settings`].
//!
//! The registers, at the start of BAR 0 (see [`bars`]):
//!
//! | offset | | |
//! |---|---|---|
//! | `0x000` | read | the id register, [`Settings::boot0`] |
//! | `0x004` | read | the number of resets since the server started; a reset does not clear it |
//! | `0x008` | read, write | the doorbell: a write of any value raises an interrupt (of a display function); a read returns the number of such writes since the last reset |
//! | from `0x1000` | read, write | scratch memory, cleared by a reset |
//!
//! The behaviour of QEMU's `vfio-user-pci` (tested with 11.1):
//! - Configuration space is forwarded, and forwarded again by the emulated host's VFIO: a machine in the emulated host
//!   sees the serial number in the extended part. The BARs' addresses are QEMU's copy, which it still shows when the
//!   function is gone; the ids, the command register and the serial number then read all ones.
//! - An FLR arrives as a write to Device Control. A reset of the machine or of the bus above arrives as a message;
//!   QEMU's root ports do not report an active link afterwards, so Linux reports each bus reset as failed (`ENOTTY`),
//!   also for QEMU's own devices, although the function was reset.
//! - The BARs are not mapped: each access is a message, also from a machine in the emulated host.

pub mod bars;
pub mod config_space;
pub mod device;
pub mod faults;
pub mod interrupts;
pub mod server;
pub mod settings;

pub use server::{Listening, serve};
pub use settings::{Bar, Fault, Settings};
