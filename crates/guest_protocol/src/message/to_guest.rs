//! What the client says.

use super::{
    CopyIn, CopyOut, Entry, ExecRequest, Hello, Message, StatRequest, StopRequest, WindowSize,
    empty, json, parsed,
};
use crate::ProtocolError;
use crate::frame::Frame;

/// What the client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToGuest {
    /// Who it is.
    Hello(Hello),
    /// Asks what the guest's command does.
    State,
    /// Runs a command.
    Exec(ExecRequest),
    /// Input of the command.
    Stdin(Vec<u8>),
    /// The input ends.
    StdinEnd,
    /// The terminal's size changed.
    Resize(WindowSize),
    /// Sends a signal to the command's processes.
    Signal(u8),
    /// Asks what a path is.
    Stat(StatRequest),
    /// Begins a copy into the guest.
    CopyIn(CopyIn),
    /// Asks for a copy out of the guest.
    CopyOut(CopyOut),
    /// A file of a copy.
    Entry(Entry),
    /// Contents of that file.
    Data(Vec<u8>),
    /// The copy is complete.
    End,
    /// Sets the clock: nanoseconds since 1970.
    SetClock(u64),
    /// Stops the guest.
    Stop(StopRequest),
}

impl Message for ToGuest {
    fn to_frame(&self) -> Result<Frame, ProtocolError> {
        let bytes = |kind, payload: &[u8]| Ok(Frame { kind, payload: payload.to_vec() });
        match self {
            Self::Hello(hello) => json(1, "a hello", hello),
            Self::State => bytes(2, &[]),
            Self::Exec(request) => json(3, "the command", request),
            Self::Stdin(input) => bytes(4, input),
            Self::StdinEnd => bytes(5, &[]),
            Self::Resize(size) => json(6, "a window's size", size),
            Self::Signal(signal) => bytes(7, &[*signal]),
            Self::Stat(request) => json(8, "a stat", request),
            Self::CopyIn(request) => json(9, "a copy", request),
            Self::CopyOut(request) => json(10, "a copy", request),
            Self::Entry(entry) => json(11, "an entry", entry),
            Self::Data(data) => bytes(12, data),
            Self::End => bytes(13, &[]),
            Self::SetClock(time) => bytes(14, &time.to_le_bytes()),
            Self::Stop(request) => json(15, "a stop", request),
        }
    }

    fn from_frame(frame: Frame) -> Result<Self, ProtocolError> {
        let Frame { kind, payload } = frame;
        Ok(match kind {
            1 => Self::Hello(parsed("a hello", &payload)?),
            2 => empty("a state", &payload, Self::State)?,
            3 => Self::Exec(parsed("the command", &payload)?),
            4 => Self::Stdin(payload),
            5 => empty("an end", &payload, Self::StdinEnd)?,
            6 => Self::Resize(parsed("a window's size", &payload)?),
            7 => match payload.as_slice() {
                [signal @ 1..=64] => Self::Signal(*signal),
                _ => return Err(malformed("a signal")),
            },
            8 => Self::Stat(parsed::<StatRequest>("a stat", &payload)?.checked()?),
            9 => Self::CopyIn(parsed::<CopyIn>("a copy", &payload)?.checked()?),
            10 => Self::CopyOut(parsed::<CopyOut>("a copy", &payload)?.checked()?),
            11 => Self::Entry(parsed::<Entry>("an entry", &payload)?.checked()?),
            12 => Self::Data(payload),
            13 => empty("an end", &payload, Self::End)?,
            14 => Self::SetClock(u64::from_le_bytes(
                payload.try_into().map_err(|_| malformed("a time"))?,
            )),
            15 => Self::Stop(parsed("a stop", &payload)?),
            other => return Err(ProtocolError::UnknownFrame(other)),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "a hello",
            Self::State => "a request for the state",
            Self::Exec(_) => "a command",
            Self::Stdin(_) => "input",
            Self::StdinEnd => "the end of input",
            Self::Resize(_) => "a window's size",
            Self::Signal(_) => "a signal",
            Self::Stat(_) => "a stat",
            Self::CopyIn(_) | Self::CopyOut(_) => "a copy",
            Self::Entry(_) => "an entry",
            Self::Data(_) => "data",
            Self::End => "the end of a copy",
            Self::SetClock(_) => "a time",
            Self::Stop(_) => "a stop",
        }
    }
}

fn malformed(what: &'static str) -> ProtocolError {
    ProtocolError::Malformed { what, reason: "its payload is none".to_owned() }
}
