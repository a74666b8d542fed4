//! The format of a recording: a tar archive compressed with gzip (or plain), with the paths of the host. In addition it has a
//! directory `handover` with data that is in no file of the host. It is read into memory and never unpacked on disk.

mod entries;
mod form;
mod pack;
mod tree;
mod unpack;

use serde::{Deserialize, Serialize};

pub use entries::{Entries, Entry, Kind};
pub use pack::pack;
#[cfg(test)]
pub use tree::TreeBuilder;
pub use tree::{Node, NodeKind, Tree, components};
pub use unpack::unpack;

/// The format version that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The file with the [`Facts`].
const FACTS: &str = "handover/recording.json";
/// The files that could not be read, with error numbers.
const ERRORS: &str = "handover/errors";
/// Block devices that were claimed exclusively.
pub const CLAIMED: &str = "handover/claimed";

/// Facts about a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The format version.
    pub format: u32,
    /// The version of Handover that created it.
    pub handover: String,
    /// The time of the recording, in UTC.
    pub recorded: String,
    /// Whether it was created by root, which may read everything.
    pub as_root: bool,
    /// Whether serial numbers and names were replaced.
    pub replaced: bool,
}
