//! The format of a recording: a tar archive compressed by gzip, whose paths are those of the host. Besides these it has a
//! directory `handover` with what no file of the host's says. It is read into memory and never unpacked on a disk.

mod entries;
mod pack;
mod tree;
mod unpack;

use serde::{Deserialize, Serialize};

pub use entries::{Entries, Entry, Kind};
pub use pack::pack;
#[cfg(test)]
pub use tree::Growing;
pub use tree::{Node, NodeKind, Tree, components};
pub use unpack::unpack;

/// The format of recordings that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Where a recording says what it is.
const FACTS: &str = "handover/recording.json";
/// What could not be read, and the number of the error.
const ERRORS: &str = "handover/errors";
/// Block devices that somebody had for himself.
pub const CLAIMED: &str = "handover/claimed";

/// What a recording says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The format.
    pub format: u32,
    /// The version of Handover that made it.
    pub handover: String,
    /// When it was made, in UTC.
    pub recorded: String,
    /// Whether it was made by root, who may read everything.
    pub as_root: bool,
    /// Whether serial numbers and names were replaced.
    pub replaced: bool,
}
