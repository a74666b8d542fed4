//! What the agent says.

use super::{CommandState, Entry, FileInfo, Message, Refusal, Welcome, empty, json, parsed};
use crate::frame::Frame;
use crate::{CommandResult, ProtocolError};

/// What the agent says. The client must expect anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromGuest {
    /// The client is known.
    Welcome(Welcome),
    /// The request is refused.
    Refused(Refusal),
    /// What the guest's command does.
    State(CommandState),
    /// The command runs.
    Started,
    /// Output of the command.
    Stdout(Vec<u8>),
    /// Output of the command for errors.
    Stderr(Vec<u8>),
    /// The command ended.
    Exited(CommandResult),
    /// What a path is.
    Stat(FileInfo),
    /// A file of a copy.
    Entry(Entry),
    /// Contents of that file.
    Data(Vec<u8>),
    /// The copy is complete.
    End,
    /// Done.
    Done,
}

impl Message for FromGuest {
    fn to_frame(&self) -> Result<Frame, ProtocolError> {
        let bytes = |kind, payload: &[u8]| Ok(Frame { kind, payload: payload.to_vec() });
        match self {
            Self::Welcome(welcome) => json(129, "a welcome", welcome),
            Self::Refused(refusal) => json(130, "a refusal", refusal),
            Self::State(state) => json(131, "a state", state),
            Self::Started => bytes(132, &[]),
            Self::Stdout(output) => bytes(133, output),
            Self::Stderr(output) => bytes(134, output),
            Self::Exited(result) => json(135, "a result", result),
            Self::Stat(info) => json(136, "a stat", info),
            Self::Entry(entry) => json(137, "an entry", entry),
            Self::Data(data) => bytes(138, data),
            Self::End => bytes(139, &[]),
            Self::Done => bytes(140, &[]),
        }
    }

    fn from_frame(frame: Frame) -> Result<Self, ProtocolError> {
        let Frame { kind, payload } = frame;
        Ok(match kind {
            129 => Self::Welcome(parsed("a welcome", &payload)?),
            130 => Self::Refused(parsed("a refusal", &payload)?),
            131 => Self::State(parsed("a state", &payload)?),
            132 => empty("a start", &payload, Self::Started)?,
            133 => Self::Stdout(payload),
            134 => Self::Stderr(payload),
            135 => Self::Exited(parsed("a result", &payload)?),
            136 => Self::Stat(parsed("a stat", &payload)?),
            137 => Self::Entry(parsed::<Entry>("an entry", &payload)?.checked()?),
            138 => Self::Data(payload),
            139 => empty("an end", &payload, Self::End)?,
            140 => empty("a done", &payload, Self::Done)?,
            other => return Err(ProtocolError::UnknownFrame(other)),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "a welcome",
            Self::Refused(_) => "a refusal",
            Self::State(_) => "a state",
            Self::Started => "a start",
            Self::Stdout(_) | Self::Stderr(_) => "output",
            Self::Exited(_) => "a result",
            Self::Stat(_) => "a stat",
            Self::Entry(_) => "an entry",
            Self::Data(_) => "data",
            Self::End => "the end of a copy",
            Self::Done => "a done",
        }
    }
}
