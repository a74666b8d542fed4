//! Frames: one byte for the kind, four for the length, little endian, then the payload.

use std::io::{self, Read, Write};

use crate::ProtocolError;

/// The longest payload.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The bytes before the payload.
pub const HEADER_BYTES: usize = 5;

/// A frame: its kind, and a payload of at most [`MAX_PAYLOAD`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The kind: see [`crate::message`].
    pub kind: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Writes a frame, as one write where the stream allows.
///
/// # Errors
/// The payload is too long, or the stream failed.
pub fn write_frame(to: &mut impl Write, kind: u8, payload: &[u8]) -> Result<(), ProtocolError> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
    let length = length.ok_or(ProtocolError::TooLong {
        what: "a frame",
        bytes: payload.len(),
        most: MAX_PAYLOAD,
    })?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.push(kind);
    bytes.extend(length.to_le_bytes());
    bytes.extend(payload);
    to.write_all(&bytes)?;
    to.flush()?;
    Ok(())
}

/// Reads a frame; none if the stream ends before one begins. The length is checked before memory is allocated.
///
/// # Errors
/// The length is above the bound, the stream ends within the frame, or fails.
pub fn read_frame(from: &mut impl Read) -> Result<Option<Frame>, ProtocolError> {
    let mut kind = [0; 1];
    loop {
        match from.read(&mut kind) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let [kind] = kind;
    let mut length = [0; 4];
    whole(from, &mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_PAYLOAD {
        return Err(ProtocolError::TooLong { what: "a frame", bytes: length, most: MAX_PAYLOAD });
    }
    let mut payload = vec![0; length];
    whole(from, &mut payload)?;
    Ok(Some(Frame { kind, payload }))
}

fn whole(from: &mut impl Read, into: &mut [u8]) -> Result<(), ProtocolError> {
    from.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ProtocolError::CutOff("a frame"),
        _ => error.into(),
    })
}
