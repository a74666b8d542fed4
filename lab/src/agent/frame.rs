//! The wire format: frames with a kind and a channel. Each command has its own channel.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// The version of the protocol, which must be the same on both sides.
pub const VERSION: u32 = 1;

/// The longest frame in bytes, so that no stream blocks the port for long.
pub const LONGEST: usize = 64 * 1024;

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From the agent, first: its version.
    Hello,
    /// To the agent: opens a channel with a [`Start`].
    Start,
    /// To the agent: bytes for the command's standard input, or for the connection.
    Input,
    /// To the agent: the end of the input.
    InputEnd,
    /// To the agent: kill the command and all its child processes.
    Kill,
    /// From the agent: bytes from standard output, or from the connection.
    Output,
    /// From the agent: bytes from standard error.
    Error,
    /// From the agent, last: the exit status (4 bytes).
    Exit,
    /// From the agent, last: the error of a failed start.
    Failed,
    /// To the relay only: end the lab.
    Down,
}

const KINDS: [Kind; 10] = [
    Kind::Hello,
    Kind::Start,
    Kind::Input,
    Kind::InputEnd,
    Kind::Kill,
    Kind::Output,
    Kind::Error,
    Kind::Exit,
    Kind::Failed,
    Kind::Down,
];

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: Kind,
    /// Its channel.
    pub channel: u32,
    /// Its content.
    pub data: Vec<u8>,
}

/// The purpose of a channel.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub enum Start {
    /// Run a program.
    Run {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Additional environment variables.
        env: Vec<(String, String)>,
    },
    /// Connect to a TCP address or, if it begins with a slash, to a unix socket.
    Connect(String),
}

impl Start {
    /// A bash script.
    pub fn script(script: &str) -> Self {
        Self::Run { argv: ["bash", "-c", script].map(str::to_owned).into(), env: Vec::new() }
    }
}

impl Frame {
    /// A frame.
    pub fn new(kind: Kind, channel: u32, data: impl Into<Vec<u8>>) -> Self {
        Self { kind, channel, data: data.into() }
    }

    /// Writes it in one piece.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let kind = KINDS.iter().position(|k| *k == self.kind).unwrap_or_default();
        let length = u32::try_from(self.data.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(self.data.len() + 9);
        bytes.extend(length.to_le_bytes());
        bytes.extend(self.channel.to_le_bytes());
        bytes.extend(u8::try_from(kind).map_err(io::Error::other)?.to_le_bytes());
        bytes.extend(&self.data);
        to.write_all(&bytes)?;
        to.flush()
    }

    /// Reads the next one.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut word = [0; 4];
        from.read_exact(&mut word)?;
        let length = usize::try_from(u32::from_le_bytes(word)).map_err(io::Error::other)?;
        from.read_exact(&mut word)?;
        let channel = u32::from_le_bytes(word);
        let mut kind = [0];
        from.read_exact(&mut kind)?;
        let kind = KINDS.get(usize::from(kind[0])).copied();
        let Some(kind) = kind.filter(|_| length <= LONGEST) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "invalid frame from the lab's agent",
            ));
        };
        let mut data = vec![0; length];
        from.read_exact(&mut data)?;
        Ok(Self { kind, channel, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_frame_is_read() {
        for kind in KINDS {
            let frame = Frame::new(kind, 7, b"data".to_vec());
            let mut bytes = Vec::new();
            frame.write(&mut bytes).unwrap();
            assert_eq!(Frame::read(&mut bytes.as_slice()).unwrap(), frame);
        }
    }

    #[test]
    fn noise_is_refused() {
        assert!(Frame::read(&mut &[0xff; 64][..]).is_err());
        assert!(Frame::read(&mut &[0, 0, 0, 0, 0, 0, 0, 0, 99][..]).is_err());
    }
}
