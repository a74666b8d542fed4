//! One connection: the handshake, then one request after the other.

use std::fs::File;
use std::io::{self, BufReader};

use guest_protocol::message::{
    FromGuest, Hello, Message, StatRequest, ToGuest, Welcome, read_message,
};
use guest_protocol::{GUEST_VERSION, PROTOCOL_VERSION, ProtocolError};
use rustix::time::{ClockId, Timespec, clock_settime};

use super::answers::Answers;
use super::exec::Running;
use super::shared::Shared;
use super::{copy_in, copy_out, files};

const READ_BUFFER: usize = 32 * 1024;

/// A connection.
pub struct Session<'a> {
    from: BufReader<File>,
    answers: Answers,
    shared: &'a Shared,
    entered: bool,
    running: Option<Running>,
}

impl<'a> Session<'a> {
    /// Begins a session.
    pub fn new(connection: &File, shared: &'a Shared) -> io::Result<Self> {
        let from = BufReader::with_capacity(READ_BUFFER, connection.try_clone()?);
        let answers = Answers::new(connection)?;
        Ok(Self { from, answers, shared, entered: false, running: None })
    }

    /// Makes the handshake: whether the client may ask for something.
    pub fn handshake(&mut self) -> Result<bool, ProtocolError> {
        let Some(ToGuest::Hello(hello)) = read_message(&mut self.from)? else { return Ok(false) };
        let Hello { protocol, token } = hello;
        if !self.shared.knows(&token) {
            self.answers.refuse("denied", "this is not the token of this start")?;
            return Ok(false);
        }
        // Also a client of another version hears which one this is.
        let welcome = Welcome {
            protocol: PROTOCOL_VERSION,
            version: GUEST_VERSION.to_owned(),
            state: self.shared.state(),
        };
        if protocol == PROTOCOL_VERSION && !self.shared.enter() {
            self.answers.refuse("busy", "the guest has too many sessions: end one, then retry")?;
            return Ok(false);
        }
        self.entered = protocol == PROTOCOL_VERSION;
        self.answers.say(&FromGuest::Welcome(welcome))?;
        Ok(self.entered)
    }

    /// Does what the client asks for, until it goes.
    pub fn serve(&mut self) -> Result<(), ProtocolError> {
        loop {
            match read_message::<ToGuest>(&mut self.from) {
                Ok(None) => return Ok(()),
                Ok(Some(message)) => self.act(message)?,
                Err(error @ ProtocolError::Malformed { .. }) => {
                    self.answers.refuse("invalid", &error.to_string())?;
                }
                Err(error) => {
                    let _ = self.answers.refuse("invalid", &error.to_string());
                    return Err(error);
                }
            }
        }
    }

    fn act(&mut self, message: ToGuest) -> Result<(), ProtocolError> {
        match message {
            ToGuest::State => self.answers.say(&FromGuest::State(self.shared.state())),
            ToGuest::Exec(request) => {
                if self.running.as_ref().is_some_and(Running::is_running) {
                    return self.answers.refuse("busy", "this session runs a command already");
                }
                self.running = Running::start(&request, &self.shared.config, &self.answers)?;
                Ok(())
            }
            // What comes for a command that has ended is late, not wrong.
            ToGuest::Stdin(bytes) => {
                if let Some(command) = self.running.as_mut().filter(|one| one.is_running()) {
                    command.input(&bytes, self.from.get_ref());
                }
                Ok(())
            }
            ToGuest::StdinEnd => {
                if let Some(command) = self.running.as_mut().filter(|one| one.is_running()) {
                    command.end_input(self.from.get_ref());
                }
                Ok(())
            }
            ToGuest::Resize(size) => self.with_command(|command| command.resize(size)),
            ToGuest::Signal(signal) => self.with_command(|command| command.signal(signal)),
            ToGuest::Stat(request) => self.stat(&request),
            ToGuest::CopyIn(request) => copy_in::receive(&request, &mut self.from, &self.answers),
            ToGuest::CopyOut(request) => copy_out::send(&request, &self.answers),
            ToGuest::SetClock(nanoseconds) => {
                let second = 1_000_000_000;
                let time = Timespec {
                    tv_sec: i64::try_from(nanoseconds / second).unwrap_or(i64::MAX),
                    tv_nsec: i64::try_from(nanoseconds % second).unwrap_or(0),
                };
                self.done(clock_settime(ClockId::Realtime, time).map_err(io::Error::from))
            }
            ToGuest::Stop(request) => self.done(self.shared.stop(&request)),
            other @ (ToGuest::Hello(_) | ToGuest::Entry(_) | ToGuest::Data(_) | ToGuest::End) => {
                let message = format!("{} has no place here", other.name());
                self.answers.refuse("invalid", &message)
            }
        }
    }

    fn with_command(&mut self, act: impl FnOnce(&mut Running)) -> Result<(), ProtocolError> {
        if let Some(command) = self.running.as_mut().filter(|command| command.is_running()) {
            act(command);
        }
        Ok(())
    }

    fn stat(&self, request: &StatRequest) -> Result<(), ProtocolError> {
        match files::stat(request) {
            Ok(info) => self.answers.say(&FromGuest::Stat(info)),
            Err(error) => self.answers.refuse("failed", &format!("{}: {error}", request.path)),
        }
    }

    fn done(&self, outcome: io::Result<()>) -> Result<(), ProtocolError> {
        match outcome {
            Ok(()) => self.answers.say(&FromGuest::Done),
            Err(error) => self.answers.refuse("failed", &error.to_string()),
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(command) = &self.running {
            command.hang_up();
        }
        if self.entered {
            self.shared.leave();
        }
    }
}
