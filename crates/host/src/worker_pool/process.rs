//! One worker process and the daemon's side of its socket.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::protocol::{self, Message, Outcome, Request};
use crate::root::OWN_EXECUTABLE;

/// The `PATH` of a worker, for `modprobe`.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How long an idle worker may take to exit.
const LEAVING: Duration = Duration::from_secs(1);

/// The command that starts a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl WorkerCommand {
    /// This executable itself, with the one argument `worker`.
    #[must_use]
    pub fn this_executable() -> Self {
        Self { program: OWN_EXECUTABLE.into(), args: vec!["worker".into()] }
    }
}

/// A worker process.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    socket: OwnedFd,
}

impl Worker {
    /// Starts a worker. It inherits only the socket.
    pub fn start(command: &WorkerCommand) -> std::io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let child = Command::new(&command.program)
            .args(&command.args)
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::from(its))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, socket: ours })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is waiting for a request, and was not killed meanwhile.
    pub fn is_alive(&self) -> bool {
        matches!(ready(self.socket.as_fd(), Duration::ZERO), Ok(false))
    }

    /// Sends a request and its lock. Afterwards only the worker has the lock.
    pub fn send(&self, request: &Request, lock: Option<OwnedFd>) -> Result<(), Errno> {
        protocol::send(self.socket.as_fd(), request, lock.as_ref())
    }

    /// Waits for the answer; `None` after `patience`.
    pub fn answer(&mut self, patience: Duration) -> Result<Option<Outcome>, String> {
        match ready(self.socket.as_fd(), patience) {
            Ok(true) => self.late_answer().map(Some),
            Ok(false) => Ok(None),
            Err(errno) => Err(format!("cannot poll its socket: {errno}")),
        }
    }

    /// Waits for the answer without a timeout.
    pub fn late_answer(&mut self) -> Result<Outcome, String> {
        let message: Option<Message> = protocol::receive(self.socket.as_fd())
            .map_err(|errno| format!("cannot receive its answer: {errno}"))?;
        match message {
            Some(message) => {
                message.value().map_err(|error| format!("cannot parse its answer: {error}"))
            }
            None => Err(match self.child.wait() {
                Ok(status) => format!("it exited: {status}"),
                Err(error) => format!("it is gone: {error}"),
            }),
        }
    }

    /// Closes its socket, so that it exits. It is reaped here, or by a thread if it does not exit in time.
    pub fn retire(self) {
        let Self { mut child, socket } = self;
        drop(socket);
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let gone = pidfd.is_some_and(|fd| ready(fd.as_fd(), LEAVING) == Ok(true));
        if gone {
            let _ = child.wait();
        } else {
            // Without a thread it stays a zombie until this process exits.
            let _ = std::thread::Builder::new().spawn(move || child.wait());
        }
    }
}

/// Waits until the descriptor is readable; `false` after `patience`.
fn ready(fd: BorrowedFd<'_>, patience: Duration) -> Result<bool, Errno> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
