//! A command of a session.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use guest_protocol::message::{ExecRequest, FromGuest, WindowSize};
use guest_protocol::{CommandResult, GuestConfig, MAX_PAYLOAD, ProtocolError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::STACK;
use super::answers::Answers;
use crate::command::{CommandSpec, Input, Started, start};
use crate::sys;

/// How long output is awaited after the command's end: processes that it left behind can keep its streams open.
const OUTPUT_WITHIN: Duration = Duration::from_millis(500);

/// A pipe that can be written to takes so much at once (`PIPE_BUF`).
const PIPE_CHUNK: usize = 4096;
/// A terminal takes less.
const TERMINAL_CHUNK: usize = 256;

/// A command that runs, or has run.
pub struct Running {
    process: Arc<Process>,
    /// Its standard input: a pipe or its terminal. None: the input ended.
    input: Option<File>,
    terminal: bool,
}

/// The process, until it is reaped: then its number can belong to another.
struct Process {
    pid: Option<Pid>,
    ended: Mutex<bool>,
}

impl Process {
    /// Sends a signal to the command and the processes of its group, if it still runs.
    fn signal(&self, signal: i32) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let (false, Some(pid)) = (*ended, self.pid) {
            sys::kill_group(pid, signal);
        }
    }

    fn is_running(&self) -> bool {
        !*self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of a command whose `Child` is lost.
    fn reap(&self) {
        self.await_end();
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended = true;
        if self.pid.is_some() {
            let _ = rustix::process::waitpid(self.pid, rustix::process::WaitOptions::NOHANG);
        }
    }

    fn await_end(&self) {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        if let Some(pid) = self.pid {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
        }
    }

    /// Waits for the end. The number is not used any more when it can be another process's.
    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        self.await_end();
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended = true;
        child.wait()
    }
}

/// A stream of a command, and the message that carries it.
type Output = (File, fn(Vec<u8>) -> FromGuest);

/// The two ends of a command's streams.
struct Streams {
    theirs: Input,
    input: File,
    outputs: Vec<Output>,
}

impl Running {
    /// Starts a command and says so. None if it did not start; then that was said.
    pub fn start(
        request: &ExecRequest,
        config: &GuestConfig,
        answers: &Answers,
    ) -> Result<Option<Self>, ProtocolError> {
        let spec = spec(request, config);
        let (child, streams) = match try_start(&spec, request.terminal) {
            Ok(Ok(started)) => started,
            Ok(Err(failure)) => {
                let code = if failure.code == 127 { "not_found" } else { "not_executable" };
                answers.refuse(code, &failure.message)?;
                return Ok(None);
            }
            Err(error) => {
                answers.refuse("failed", &format!("cannot start a process: {error}"))?;
                return Ok(None);
            }
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = Arc::new(Process { pid, ended: Mutex::new(false) });
        let running = Self {
            process: Arc::clone(&process),
            input: Some(streams.input),
            terminal: spec.terminal,
        };
        match attend(child, process, streams.outputs, answers) {
            Ok(()) => Ok(Some(running)),
            Err(error) => {
                // No session will know it: it must not run on unseen.
                running.hang_up();
                running.process.reap();
                Err(error)
            }
        }
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Gives it input. If it has closed its input, that is lost. It may never read: then this waits until it ends or
    /// the client goes.
    pub fn input(&mut self, bytes: &[u8], client: &File) {
        let most = if self.terminal { TERMINAL_CHUNK } else { PIPE_CHUNK };
        for chunk in bytes.chunks(most) {
            let Some(input) = &mut self.input else { return };
            if !can_write(input, client) || input.write_all(chunk).is_err() {
                self.input = None;
            }
        }
    }

    /// Ends its input: closes the pipe, or types the end on the terminal.
    pub fn end_input(&mut self, client: &File) {
        const END_OF_TRANSMISSION: u8 = 4;
        if self.terminal {
            self.input(&[END_OF_TRANSMISSION], client);
        } else {
            self.input = None;
        }
    }

    /// Changes the size of its terminal.
    pub fn resize(&mut self, size: WindowSize) {
        if let (true, Some(terminal)) = (self.terminal, &self.input) {
            let _ = tcsetwinsize(terminal, window(size));
        }
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: u8) {
        self.process.signal(i32::from(signal));
    }

    /// The client is gone: as if its terminal were.
    pub fn hang_up(&self) {
        self.process.signal(libc::SIGHUP);
        self.process.signal(libc::SIGCONT);
    }
}

/// Says that the command runs, and starts what copies its output and waits for it.
fn attend(
    child: Child,
    process: Arc<Process>,
    outputs: Vec<Output>,
    answers: &Answers,
) -> Result<(), ProtocolError> {
    answers.say(&FromGuest::Started)?;
    let over = Arc::new(AtomicBool::new(false));
    let mut pumps = Vec::new();
    for (from, message) in outputs {
        pumps.push(pump(from, message, answers.clone(), Arc::clone(&over))?);
    }
    let answers = answers.clone();
    std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let result = wait(child, &process, &pumps);
        over.store(true, Ordering::SeqCst);
        let _ = answers.say(&FromGuest::Exited(result));
    })?;
    Ok(())
}

fn spec(request: &ExecRequest, config: &GuestConfig) -> CommandSpec {
    let working_dir = if request.working_dir.is_empty() {
        config.working_dir.clone()
    } else {
        request.working_dir.clone()
    };
    CommandSpec {
        argv: request.argv.clone(),
        env: config.env.iter().chain(&request.env).cloned().collect(),
        user: request.user.clone().unwrap_or_else(|| config.user.clone()),
        working_dir,
        terminal: request.terminal.is_some(),
        same_session: false,
    }
}

/// Waits until the command takes input; false if it has closed it, or the client is gone.
fn can_write(input: &File, client: &File) -> bool {
    loop {
        let mut both = [PollFd::new(input, PollFlags::OUT), PollFd::new(client, PollFlags::RDHUP)];
        match poll(&mut both, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return false,
        }
        let [command, client] = both.map(|one| one.revents());
        if client.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            return false;
        }
        if command.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return false;
        }
        if command.contains(PollFlags::OUT) {
            return true;
        }
    }
}

type Tried = Result<(Child, Streams), crate::command::CommandFailure>;

fn try_start(spec: &CommandSpec, size: Option<WindowSize>) -> io::Result<Tried> {
    let mut streams = match size {
        Some(size) => terminal(size)?,
        None => pipes()?,
    };
    let nothing = || Input {
        stdin: std::process::Stdio::null(),
        stdout: std::process::Stdio::null(),
        stderr: std::process::Stdio::null(),
    };
    let theirs = std::mem::replace(&mut streams.theirs, nothing());
    Ok(match start(spec, theirs)? {
        Started::Running(child) => Ok((child, streams)),
        Started::Failed(failure) => Err(failure),
    })
}

fn pipes() -> io::Result<Streams> {
    let ours = |pipe: PipeReader| File::from(OwnedFd::from(pipe));
    let (stdin, input) = io::pipe()?;
    let (output, stdout) = io::pipe()?;
    let (errors, stderr) = io::pipe()?;
    Ok(Streams {
        theirs: Input { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() },
        input: File::from(OwnedFd::from(input)),
        outputs: vec![(ours(output), FromGuest::Stdout), (ours(errors), FromGuest::Stderr)],
    })
}

fn terminal(size: WindowSize) -> io::Result<Streams> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    let theirs = File::from(ioctl_tiocgptpeer(&ours, flags)?);
    tcsetwinsize(&ours, window(size))?;
    let ours = File::from(ours);
    let (stdout, stderr) = (theirs.try_clone()?, theirs.try_clone()?);
    Ok(Streams {
        theirs: Input { stdin: theirs.into(), stdout: stdout.into(), stderr: stderr.into() },
        outputs: vec![(ours.try_clone()?, FromGuest::Stdout)],
        input: ours,
    })
}

fn window(size: WindowSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Copies output to the client. If the client is gone, the output is read and lost, so that the command can end.
fn pump(
    mut from: File,
    message: fn(Vec<u8>) -> FromGuest,
    answers: Answers,
    over: Arc<AtomicBool>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let mut buffer = vec![0; MAX_PAYLOAD / 2];
        // A terminal whose last process has closed it answers with an error.
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if over.load(Ordering::SeqCst) {
                return;
            }
            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
            let _ = answers.say(&message(bytes));
        }
    })
}

fn wait(mut child: Child, process: &Process, pumps: &[JoinHandle<()>]) -> CommandResult {
    let status = process.wait(&mut child);
    let until = Instant::now() + OUTPUT_WITHIN;
    while pumps.iter().any(|pump| !pump.is_finished()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => CommandResult::exited(byte(code)),
            (None, signal) => CommandResult::signaled(byte(signal.unwrap_or(0))),
        },
        Err(error) => CommandResult::failed(format!("the command's status is lost: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::CommandExt;

    use super::*;

    #[test]
    fn a_command_whose_client_is_gone_is_hung_up_and_reaped() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let answers = Answers::new(&File::from(OwnedFd::from(ours))).unwrap();
        // Under nohup, a process begins with SIGHUP ignored.
        let mut sleep = std::process::Command::new("env");
        sleep.args(["--default-signal=HUP", "sleep", "1000"]);
        let child = sleep.process_group(0).spawn();
        let child = child.unwrap();
        let name = format!("/proc/{}/comm", child.id());
        while std::fs::read_to_string(&name).unwrap() != "sleep\n" {
            std::thread::yield_now();
        }
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let process = Arc::new(Process { pid, ended: Mutex::new(false) });
        let running = Running { process: Arc::clone(&process), input: None, terminal: false };
        assert!(attend(child, process, Vec::new(), &answers).is_err());
        running.hang_up();
        running.process.reap();
        assert!(!running.is_running());
        assert!(rustix::process::test_kill_process(pid.unwrap()).is_err());
    }
}
