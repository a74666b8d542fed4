//! The host's side of the agent's channel, over any stream. Deadlines are the caller's: it sets them on its stream.

mod copy;
mod exec;

use std::io::{Read, Write};

pub use copy::CopyingIn;
pub use exec::{ExecEvent, ExecReader, ExecWriter};

use crate::message::{
    CommandState, FileInfo, FromGuest, Hello, Message, StatRequest, StopRequest, ToGuest, Welcome,
    read_message, write_message,
};
use crate::{PROTOCOL_VERSION, ProtocolError};

/// A session with the agent, after the handshake.
#[derive(Debug)]
pub struct Client<R, W> {
    reader: R,
    writer: W,
    welcome: Welcome,
}

impl<R: Read, W: Write> Client<R, W> {
    /// Makes the handshake. `reader` and `writer` are the two directions of one stream.
    ///
    /// # Errors
    /// The agent refuses, has another version, or says something else.
    pub fn begin(mut reader: R, mut writer: W, token: &str) -> Result<Self, ProtocolError> {
        let hello = Hello { protocol: PROTOCOL_VERSION, token: token.to_owned() };
        write_message(&mut writer, &ToGuest::Hello(hello))?;
        let FromGuest::Welcome(welcome) =
            answer(&mut reader, "a welcome", |message| matches!(message, FromGuest::Welcome(_)))?
        else {
            return Err(ProtocolError::CutOff("the handshake"));
        };
        if welcome.protocol != PROTOCOL_VERSION {
            let (theirs, ours) = (welcome.protocol, PROTOCOL_VERSION);
            return Err(ProtocolError::Version { theirs, ours });
        }
        Ok(Self { reader, writer, welcome })
    }

    /// What the agent said of itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// What the guest's command does.
    ///
    /// # Errors
    /// The agent refuses or fails.
    pub fn state(&mut self) -> Result<CommandState, ProtocolError> {
        match self.ask(&ToGuest::State, "a state")? {
            FromGuest::State(state) => Ok(state),
            other => Err(unexpected(&other, "a state")),
        }
    }

    /// What a path is.
    ///
    /// # Errors
    /// The agent refuses or fails.
    pub fn stat(&mut self, request: &StatRequest) -> Result<FileInfo, ProtocolError> {
        match self.ask(&ToGuest::Stat(request.clone()), "a stat")? {
            FromGuest::Stat(info) => Ok(info),
            other => Err(unexpected(&other, "a stat")),
        }
    }

    /// Sets the guest's clock, to nanoseconds since 1970.
    ///
    /// # Errors
    /// The agent refuses or fails.
    pub fn set_clock(&mut self, nanoseconds: u64) -> Result<(), ProtocolError> {
        self.done(&ToGuest::SetClock(nanoseconds))
    }

    /// Tells the guest to stop its command and to switch itself off. It returns when the guest has heard it.
    ///
    /// # Errors
    /// The agent refuses or fails.
    pub fn stop(&mut self, request: &StopRequest) -> Result<(), ProtocolError> {
        self.done(&ToGuest::Stop(request.clone()))
    }

    fn done(&mut self, request: &ToGuest) -> Result<(), ProtocolError> {
        match self.ask(request, "a done")? {
            FromGuest::Done => Ok(()),
            other => Err(unexpected(&other, "a done")),
        }
    }

    fn ask(&mut self, request: &ToGuest, wanted: &'static str) -> Result<FromGuest, ProtocolError> {
        write_message(&mut self.writer, request)?;
        answer(&mut self.reader, wanted, |_| true)
    }
}

/// The next message, if it is one that is wanted. A refusal is an error.
fn answer(
    reader: &mut impl Read,
    wanted: &'static str,
    is_wanted: impl Fn(&FromGuest) -> bool,
) -> Result<FromGuest, ProtocolError> {
    match read_message::<FromGuest>(reader)? {
        None => Err(ProtocolError::CutOff("the session")),
        Some(FromGuest::Refused(refusal)) => {
            let (code, message) = (refusal.code, refusal.message);
            Err(ProtocolError::Refused { code, message })
        }
        Some(message) if is_wanted(&message) => Ok(message),
        Some(other) => Err(unexpected(&other, wanted)),
    }
}

fn unexpected(got: &FromGuest, wanted: &'static str) -> ProtocolError {
    ProtocolError::Unexpected { got: got.name(), wanted }
}
