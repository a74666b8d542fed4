//! Starts the stage, and learns whether it became the command.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};

use super::{CommandFailure, CommandSpec, STAGE};
use crate::{NAME, path_of};

/// The three streams of a command.
pub struct Input {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}

/// What came of it.
pub enum Started {
    /// The command runs.
    Running(Child),
    /// It did not start.
    Failed(CommandFailure),
}

/// The longest report.
const MAX_REPORT_BYTES: u64 = 64 * 1024;

/// Starts a command, and waits until it runs or cannot.
pub fn start(spec: &CommandSpec, streams: Input) -> io::Result<Started> {
    let mut file = File::from(memfd_create("command", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(spec)?)?;
    file.rewind()?;
    // The stage opens both by their paths below /proc: no descriptor of one command leaks into another, which a thread
    // starts at the same time.
    let (mut from_stage, to_us) = io::pipe()?;
    let mut child = Command::new(path_of::EXECUTABLE)
        .arg0(NAME)
        .args([STAGE, &path_of::descriptor(&file), &path_of::descriptor(&to_us)])
        .env_clear()
        .stdin(streams.stdin)
        .stdout(streams.stdout)
        .stderr(streams.stderr)
        .spawn()?;
    // The stage says one byte when it has opened its end; only then ours can be closed.
    let mut begun = [0; 1];
    let mut begin = || -> io::Result<()> {
        loop {
            let mut poll = [rustix::event::PollFd::new(&from_stage, rustix::event::PollFlags::IN)];
            let wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if rustix::event::poll(&mut poll, Some(&wait))? > 0 {
                return from_stage.read_exact(&mut begun);
            }
            if child.try_wait()?.is_some() {
                return Err(io::Error::other("the process that was to become the command ended"));
            }
        }
    };
    begin()?;
    drop(to_us);
    drop(file);
    let mut report = Vec::new();
    from_stage.take(MAX_REPORT_BYTES).read_to_end(&mut report)?;
    if report.is_empty() {
        return Ok(Started::Running(child));
    }
    let _ = child.wait();
    Ok(Started::Failed(serde_json::from_slice(&report)?))
}
