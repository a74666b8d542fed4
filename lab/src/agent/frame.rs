//! What goes over the wire: frames of a kind, for a channel. Each command has its own channel.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// Both ends must be of one mind; an agent of another build says so here.
pub const VERSION: u32 = 1;

/// A frame is at most this long, so that no stream holds the port for long.
pub const LONGEST: usize = 64 * 1024;

/// What a frame means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From the agent, first: its version.
    Hello,
    /// To the agent: opens a channel with a [`Start`].
    Start,
    /// To the agent: bytes for the command's stdin, or for the connection.
    Input,
    /// To the agent: no more input.
    InputEnd,
    /// To the agent: kill the command and all that it started.
    Kill,
    /// From the agent: bytes from stdout, or from the connection.
    Output,
    /// From the agent: bytes from stderr.
    Error,
    /// From the agent, last: the exit status (4 bytes).
    Exit,
    /// From the agent, last: why it could not be started.
    Failed,
    /// To the relay only: end the whole lab.
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
    /// What it means.
    pub kind: Kind,
    /// Whose it is.
    pub channel: u32,
    /// Its content.
    pub data: Vec<u8>,
}

/// What a channel is opened for.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub enum Start {
    /// Run a program.
    Run {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Added to its environment.
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
                "not a frame of the lab's agent",
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
    fn a_frame_comes_back_as_it_was() {
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
