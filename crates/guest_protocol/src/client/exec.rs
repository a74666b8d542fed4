//! Running a command in the guest.

use std::io::{Read, Write};

use super::{Client, answer, unexpected};
use crate::frame::MAX_PAYLOAD;
use crate::message::{ExecRequest, FromGuest, ToGuest, WindowSize, write_message};
use crate::{CommandResult, ProtocolError};

/// What a running command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// It wrote to its standard output, or to its terminal.
    Stdout(Vec<u8>),
    /// It wrote to its standard error.
    Stderr(Vec<u8>),
    /// It ended. Nothing comes after this.
    Exited(CommandResult),
}

/// The direction from a running command.
#[derive(Debug)]
pub struct ExecReader<R> {
    reader: R,
}

/// The direction to a running command. If it is dropped, and the stream with it, the guest ends the command.
#[derive(Debug)]
pub struct ExecWriter<W> {
    writer: W,
}

impl<R: Read, W: Write> Client<R, W> {
    /// Runs a command. The two directions are independent, so that two threads can use them.
    ///
    /// # Errors
    /// The agent refuses: the command was not found or cannot be executed, the user is unknown, there are too many
    /// sessions.
    pub fn exec(
        mut self,
        request: &ExecRequest,
    ) -> Result<(ExecReader<R>, ExecWriter<W>), ProtocolError> {
        match self.ask(&ToGuest::Exec(request.clone()), "a start")? {
            FromGuest::Started => {}
            other => return Err(unexpected(&other, "a start")),
        }
        Ok((ExecReader { reader: self.reader }, ExecWriter { writer: self.writer }))
    }

    /// Runs a command with this input, gives its output to `on_output`, and waits for its end.
    ///
    /// The input is written before output is read: it should be short. Use [`Client::exec`] and two threads otherwise.
    ///
    /// # Errors
    /// As [`Client::exec`].
    pub fn run(
        self,
        request: &ExecRequest,
        input: &[u8],
        mut on_output: impl FnMut(&ExecEvent),
    ) -> Result<CommandResult, ProtocolError> {
        let (mut reader, mut writer) = self.exec(request)?;
        writer.input(input)?;
        writer.end_input()?;
        loop {
            match reader.next_event()? {
                ExecEvent::Exited(result) => return Ok(result),
                output => on_output(&output),
            }
        }
    }
}

impl<R: Read> ExecReader<R> {
    /// Waits for the command to write something, or to end.
    ///
    /// # Errors
    /// The stream failed or ended, or the agent said something else.
    pub fn next_event(&mut self) -> Result<ExecEvent, ProtocolError> {
        match answer(&mut self.reader, "output", |_| true)? {
            FromGuest::Stdout(bytes) => Ok(ExecEvent::Stdout(bytes)),
            FromGuest::Stderr(bytes) => Ok(ExecEvent::Stderr(bytes)),
            FromGuest::Exited(result) => Ok(ExecEvent::Exited(result)),
            other => Err(unexpected(&other, "output")),
        }
    }
}

impl<W: Write> ExecWriter<W> {
    /// Gives the command input.
    ///
    /// # Errors
    /// The stream failed.
    pub fn input(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        for chunk in bytes.chunks(MAX_PAYLOAD) {
            write_message(&mut self.writer, &ToGuest::Stdin(chunk.to_vec()))?;
        }
        Ok(())
    }

    /// Ends the command's input.
    ///
    /// # Errors
    /// The stream failed.
    pub fn end_input(&mut self) -> Result<(), ProtocolError> {
        write_message(&mut self.writer, &ToGuest::StdinEnd)
    }

    /// Tells the command that its terminal has another size.
    ///
    /// # Errors
    /// The stream failed.
    pub fn resize(&mut self, size: WindowSize) -> Result<(), ProtocolError> {
        write_message(&mut self.writer, &ToGuest::Resize(size))
    }

    /// Sends a signal to the command and the processes of its group.
    ///
    /// # Errors
    /// The stream failed.
    pub fn signal(&mut self, signal: u8) -> Result<(), ProtocolError> {
        write_message(&mut self.writer, &ToGuest::Signal(signal))
    }
}
