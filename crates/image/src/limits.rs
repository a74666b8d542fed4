//! The limits of uploads and imports.

/// Disk space that is never granted, in bytes: the journal needs it, also while machines write.
pub const RESERVE: u64 = 64 << 20;

/// The limits of uploads and imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest file of an image, in bytes with its holes: all of it is hashed.
    pub largest_file: u64,
    /// How many uploads and imports may run at the same time.
    pub at_once: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { largest_file: 256 << 30, at_once: 4 }
    }
}
