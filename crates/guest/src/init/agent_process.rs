//! The agent's process, as the init sees it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use guest_protocol::GuestConfig;
use guest_protocol::message::{CommandState, StopRequest};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::agent::AGENT;
use crate::{NAME, path_of};

/// The longest request.
const MAX_REQUEST_BYTES: usize = 4096;

/// The agent's process. It is reaped with all others.
pub struct AgentProcess {
    to: File,
    from: File,
    pending: Vec<u8>,
}

impl AgentProcess {
    /// Starts it and gives it the configuration.
    pub fn start(config: &GuestConfig) -> io::Result<Self> {
        let (stdin, to) = io::pipe()?;
        let (from, stdout) = io::pipe()?;
        Command::new(path_of::EXECUTABLE)
            .arg0(NAME)
            .arg(AGENT)
            .env_clear()
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()?;
        fcntl_setfl(&from, OFlags::NONBLOCK)?;
        let (to, from) = (File::from(OwnedFd::from(to)), File::from(OwnedFd::from(from)));
        let mut agent = Self { to, from, pending: Vec::new() };
        agent.send(&serde_json::to_vec(config)?)?;
        Ok(agent)
    }

    /// Says what the command does. An agent that has died does not hear it.
    pub fn tell(&mut self, state: &CommandState) {
        if let Ok(line) = serde_json::to_vec(state) {
            let _ = self.send(&line);
        }
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.to.write_all(line)?;
        self.to.write_all(b"\n")
    }

    /// What it asks for since the last call; an error if it is gone.
    pub fn requests(&mut self) -> io::Result<Vec<StopRequest>> {
        let mut buffer = [0; 1024];
        loop {
            match self.from.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.pending.extend(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.pending.len() > MAX_REQUEST_BYTES {
                return Err(io::Error::other("the agent's request is too long"));
            }
        }
        let mut requests = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            requests.extend(serde_json::from_slice(&line));
        }
        Ok(requests)
    }
}

impl AsFd for AgentProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }
}
