//! The screen of a machine.

use serde::{Deserialize, Serialize};

/// A screen, which also takes the keyboard and the pointer of its viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Display {
    /// The protocol of its viewers.
    pub protocol: DisplayProtocol,
    /// The memory of its graphics adapter in bytes, if more or less than usual is needed: a power of two. It limits the
    /// resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_memory: Option<u64>,
}

impl Display {
    /// The least and the most memory of the graphics adapter, in bytes (QEMU's `hw/display/vga.c`).
    pub const VIDEO_MEMORY: std::ops::RangeInclusive<u64> = (1 << 20)..=(512 << 20);
}

/// The protocol of a screen's viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DisplayProtocol {
    /// VNC (RFC 6143).
    Vnc,
    /// SPICE, with a clipboard if the guest runs its agent.
    Spice,
}

impl DisplayProtocol {
    /// Every protocol.
    pub const ALL: [Self; 2] = [Self::Vnc, Self::Spice];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vnc => "vnc",
            Self::Spice => "spice",
        }
    }
}
