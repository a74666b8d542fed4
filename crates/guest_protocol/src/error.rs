//! What can be wrong with bytes of the other side.

use std::io;

/// The other side said something that the protocol does not allow, or nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The disk does not begin with the magic number.
    #[error(
        "this is not a configuration disk of Handover: it does not begin with its magic number"
    )]
    NotOurs,
    /// The layout or the channel has another version.
    #[error(
        "the other side speaks version {theirs} of the protocol, and this side {ours}: both must come from one release"
    )]
    Version {
        /// Theirs.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// Something is longer than its bound.
    #[error("{what} has {bytes} bytes, but at most {most} are allowed")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// The bytes end too early.
    #[error("{0} is cut off")]
    CutOff(&'static str),
    /// The checksum is wrong: the record was not written completely.
    #[error("the record's checksum is wrong: it was not written completely")]
    Checksum,
    /// The JSON in it is wrong.
    #[error("{what} is not understood: {reason}")]
    Malformed {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A kind of frame that does not exist.
    #[error("the other side sent a frame of the unknown kind {0}")]
    UnknownFrame(u8),
    /// A frame that has no place here.
    #[error("the other side sent {got} where {wanted} was expected")]
    Unexpected {
        /// What came.
        got: &'static str,
        /// What was expected.
        wanted: &'static str,
    },
    /// The other side has refused, and says why.
    #[error("the guest refused: {message}")]
    Refused {
        /// A stable word.
        code: String,
        /// Its sentence.
        message: String,
    },
    /// The stream failed or ended.
    #[error("the connection to the guest's agent failed: {0}")]
    Stream(#[from] io::Error),
}
