//! The screen of a machine.

use std::fmt;
use std::net::SocketAddr;

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
    /// The address of the host on which viewers can reach it, with a password; by default only the daemon can. A port of 0 is
    /// not chosen yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl Display {
    /// The least and the most memory of the graphics adapter, in bytes (QEMU's `hw/display/vga.c`).
    pub const VIDEO_MEMORY: std::ops::RangeInclusive<u64> = (1 << 20)..=(512 << 20);
}

/// A secret: its debug output does not have it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
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
