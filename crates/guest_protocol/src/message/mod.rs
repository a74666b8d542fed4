//! What the two sides of the agent's channel say.
//!
//! A session: the client says [`ToGuest::Hello`], the agent answers [`FromGuest::Welcome`] or [`FromGuest::Refused`]. Then the client makes
//! one request. Where a request has an answer, [`FromGuest::Refused`] can come in its place. After the answer the
//! client may make the next request on the same stream.
//!
//! | request | then the client sends | the agent answers |
//! |---|---|---|
//! | `State` | | `State` |
//! | `Exec` | `Stdin`, `StdinEnd`, `Resize`, `Signal`, any number | `Started`, then `Stdout` and `Stderr`, then `Exited` |
//! | `Stat` | | `Stat` |
//! | `CopyIn` | `Entry`, its `Data`, the next `Entry`, ..., `End` | `Done` |
//! | `CopyOut` | | `Entry`, its `Data`, ..., `End` |
//! | `SetClock` | | `Done` |
//! | `Stop` | | `Done`; then the guest stops its command and switches itself off |

mod files;
mod from_guest;
mod session;
mod to_guest;

use std::io::{Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use files::{CopyIn, CopyOut, Entry, EntryKind, FileInfo, StatRequest};
pub use from_guest::FromGuest;
pub use session::{CommandState, ExecRequest, Hello, Refusal, StopRequest, Welcome, WindowSize};
pub use to_guest::ToGuest;

use crate::frame::{Frame, MAX_PAYLOAD};
use crate::{ProtocolError, read_frame, write_frame};

/// A message of one side.
pub trait Message: Sized {
    /// The frame's kind and payload.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    fn to_frame(&self) -> Result<Frame, ProtocolError>;

    /// The message in a frame.
    ///
    /// # Errors
    /// The kind does not exist, or the payload is not understood.
    fn from_frame(frame: Frame) -> Result<Self, ProtocolError>;

    /// The message's name, for errors.
    fn name(&self) -> &'static str;
}

/// Writes a message.
///
/// # Errors
/// It is too long, or the stream failed.
pub fn write_message<M: Message>(to: &mut impl Write, message: &M) -> Result<(), ProtocolError> {
    let frame = message.to_frame()?;
    write_frame(to, frame.kind, &frame.payload)
}

/// Reads a message; none if the stream ends before one begins.
///
/// # Errors
/// It is none of this side's messages, too long, cut off, or the stream failed.
pub fn read_message<M: Message>(from: &mut impl Read) -> Result<Option<M>, ProtocolError> {
    read_frame(from)?.map(M::from_frame).transpose()
}

fn json<T: Serialize>(kind: u8, what: &'static str, value: &T) -> Result<Frame, ProtocolError> {
    let payload = serde_json::to_vec(value)
        .map_err(|error| ProtocolError::Malformed { what, reason: error.to_string() })?;
    if payload.len() > MAX_PAYLOAD {
        return Err(ProtocolError::TooLong { what, bytes: payload.len(), most: MAX_PAYLOAD });
    }
    Ok(Frame { kind, payload })
}

fn parsed<T: DeserializeOwned>(what: &'static str, payload: &[u8]) -> Result<T, ProtocolError> {
    serde_json::from_slice(payload)
        .map_err(|error| ProtocolError::Malformed { what, reason: error.to_string() })
}

/// A message that is only its kind has no payload.
fn empty<T>(what: &'static str, payload: &[u8], message: T) -> Result<T, ProtocolError> {
    if payload.is_empty() {
        return Ok(message);
    }
    Err(ProtocolError::TooLong { what, bytes: payload.len(), most: 0 })
}
