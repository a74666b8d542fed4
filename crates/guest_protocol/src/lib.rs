//! What the host and the guest's init say to each other.
//!
//! There are two ways. The *configuration disk* ([`disk`]) says before the start what the guest is to do, and carries
//! the result back when the command has ended: it needs no channel and no daemon. The *agent's channel* ([`message`],
//! [`Client`]) is a byte stream, one per session, on which the host runs commands and copies files while the guest runs.
//!
//! Both sides treat what they read as untrusted: every length has a bound that is checked before memory is allocated.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod client;
mod config;
pub mod disk;
mod error;
mod frame;
pub mod message;
mod paths;
pub mod ramdisk;
mod result;
mod signal;

pub use client::{Client, CopyingIn, ExecEvent, ExecReader, ExecWriter};
pub use config::{Addressing, Agent, Card, GuestConfig, MountPoint};
pub use error::ProtocolError;
pub use frame::{Frame, HEADER_BYTES, MAX_PAYLOAD, read_frame, write_frame};
pub use paths::{is_absolute_path, is_inner_path};
pub use result::CommandResult;
pub use signal::{StopSignal, UnknownSignal};

/// The version of the agent's channel. Both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 1;

/// The version of the guest's executable, as the handshake has it.
pub const GUEST_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Serial numbers of the disks that a guest has. A virtio disk's serial number has at most 20 bytes.
pub mod serials {
    /// The image's root: a read-only erofs.
    pub const ROOT: &str = "handover-root";
    /// The overlay's upper and work directories: an ext4.
    pub const UPPER: &str = "handover-upper";
    /// The configuration disk.
    pub const CONFIG: &str = "handover-config";
    /// The kernel's modules, where they are not the image's own: a read-only erofs.
    pub const MODULES: &str = "handover-modules";
    /// The longest serial number that a virtio disk can have (`VIRTIO_BLK_ID_BYTES`).
    pub const MAX_BYTES: usize = 20;
}
