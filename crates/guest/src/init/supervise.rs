//! Watches the command: reaps processes, forwards signals, and stops it when it is told to.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use guest_protocol::message::{CommandState, StopRequest};
use guest_protocol::{CommandResult, GuestConfig, StopSignal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use rustix::time::Timespec;

use super::agent_process::AgentProcess;
use super::error::InitError;
use super::power::Keys;
use crate::command::{CommandSpec, Input, Started, start};
use crate::console;
use crate::sys::{self, Signals};

/// How long the last output may take to reach the console after the command's end.
const OUTPUT_WITHIN: Duration = Duration::from_secs(2);

/// Runs the command until it ends.
pub fn run(
    config: &GuestConfig,
    spec: &CommandSpec,
    signals: Signals,
    mut agent: Option<AgentProcess>,
) -> Result<CommandResult, InitError> {
    let stop_signal = StopSignal::parse(&config.stop_signal).unwrap_or_else(|error| {
        console::say(&format!("{error}; the command gets SIGTERM instead"));
        StopSignal::TERM
    });
    let (input, output) = streams(config.tty).map_err(InitError::Run)?;
    let pid = match start(spec, input).map_err(InitError::Run)? {
        Started::Failed(failure) => return Ok(super::of_failure(failure)),
        // It is reaped with all others, below.
        Started::Running(child) => i32::try_from(child.id()).ok().and_then(Pid::from_raw),
    };
    let Some(pid) = pid else {
        return Err(InitError::Run(io::Error::other("the command has no process number")));
    };
    if let Some(agent) = &mut agent {
        agent.tell(&CommandState::Running { pid: pid.as_raw_nonzero().get() });
    }
    let mut watch = Watch {
        pid,
        agent,
        signals,
        keys: Keys::all(),
        stop_signal,
        grace: Duration::from_secs(u64::from(config.stop_timeout_seconds)),
        kill_at: None,
        stopping: false,
    };
    let result = watch.until_end()?;
    if let Some(output) = output {
        wait_for(&output);
    }
    Ok(result)
}

/// The command's streams: the console as its terminal, or a pipe that a thread copies to the console.
fn streams(terminal: bool) -> io::Result<(Input, Option<JoinHandle<()>>)> {
    if terminal {
        let console = OpenOptions::new().read(true).write(true).open(console_device())?;
        let (stdout, stderr) = (console.try_clone()?, console.try_clone()?);
        let input = Input { stdin: console.into(), stdout: stdout.into(), stderr: stderr.into() };
        return Ok((input, None));
    }
    let (mut from_command, stdout) = io::pipe()?;
    let stderr = stdout.try_clone()?;
    let copy = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        let Ok(mut console) = OpenOptions::new().write(true).open("/dev/console") else { return };
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = from_command.read(&mut buffer) {
            let _ = console.write_all(buffer.get(..length).unwrap_or_default());
        }
    })?;
    let input = Input { stdin: Stdio::null(), stdout: stdout.into(), stderr: stderr.into() };
    Ok((input, Some(copy)))
}

/// The terminal behind `/dev/console`, which itself cannot be a controlling terminal.
fn console_device() -> String {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    active
        .split_whitespace()
        .last()
        .map_or("/dev/console".to_owned(), |name| format!("/dev/{name}"))
}

fn wait_for(output: &JoinHandle<()>) {
    let until = Instant::now() + OUTPUT_WITHIN;
    while !output.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The command while it runs.
struct Watch {
    pid: Pid,
    agent: Option<AgentProcess>,
    signals: Signals,
    keys: Vec<Keys>,
    stop_signal: StopSignal,
    grace: Duration,
    kill_at: Option<Instant>,
    /// A stop has begun.
    stopping: bool,
}

impl Watch {
    fn until_end(&mut self) -> Result<CommandResult, InitError> {
        loop {
            if let Some(result) = self.reap() {
                return Ok(result);
            }
            self.wait().map_err(InitError::Run)?;
            while let Some(signal) = self.signals.next() {
                self.forward(signal);
            }
            self.hear_keys();
            self.hear_agent();
            if self.kill_at.is_some_and(|at| Instant::now() >= at) {
                self.kill_at = None;
                let _ = kill_process(self.pid, Signal::KILL);
            }
        }
    }

    /// Waits for a signal, the power button or the end of the grace period.
    fn wait(&self) -> io::Result<()> {
        let mut all = vec![PollFd::new(&self.signals, PollFlags::IN)];
        all.extend(self.keys.iter().map(|keys| PollFd::new(keys, PollFlags::IN)));
        all.extend(self.agent.iter().map(|agent| PollFd::new(agent, PollFlags::IN)));
        let left = self.kill_at.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut all, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reaps all processes that have ended, the command's or not.
    fn reap(&self) -> Option<CommandResult> {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.pid {
                return Some(of_status(status));
            }
        }
        None
    }

    /// What is sent to process 1 is meant for the command, which would be process 1 in a container.
    fn forward(&mut self, signal: i32) {
        if signal == libc::SIGCHLD {
            return;
        }
        sys::kill_one(self.pid, signal);
    }

    /// Hears the power button, and forgets devices that were unplugged. The host presses again while it waits: programs
    /// that take a second signal as "at once" must not get one.
    fn hear_keys(&mut self) {
        let mut pressed = false;
        self.keys.retain_mut(|keys| {
            let news = keys.news();
            pressed |= news.pressed;
            !news.gone
        });
        if pressed && !self.stopping {
            self.stop(&StopRequest::default());
        }
    }

    /// Does what the agent asks for. An agent that died is not asked again.
    fn hear_agent(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        match agent.requests() {
            Ok(requests) => requests.iter().for_each(|request| self.stop(request)),
            Err(_) => self.agent = None,
        }
    }

    /// Sends the stop signal, and `SIGKILL` after the grace period. A later request can only shorten it.
    fn stop(&mut self, request: &StopRequest) {
        let named = request.signal.as_deref().map(StopSignal::parse);
        let signal = named.and_then(Result::ok).unwrap_or(self.stop_signal);
        self.stopping = true;
        sys::kill_one(self.pid, i32::from(signal.number()));
        let grace = request.timeout_seconds.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let at = Instant::now() + grace.unwrap_or(self.grace);
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
    }
}

fn of_status(status: WaitStatus) -> CommandResult {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (_, Some(signal)) => CommandResult::signaled(byte(signal)),
        (code, None) => CommandResult::exited(byte(code.unwrap_or(255))),
    }
}
