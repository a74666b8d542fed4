//! A session in this terminal: copied streams, and a shell in raw mode.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
    time::Instant,
};

use anyhow::{Result, bail};
use lab::agent::{Client, Session, Start, client::Event};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exit(i32),
    /// It timed out, and is being killed.
    Timeout,
    /// L1 ended during the session.
    Gone,
}

/// Copies a session's streams to those of this process until it ends.
pub fn stream(session: &mut Session, stdin: bool, deadline: Option<Instant>) -> Result<End> {
    let input = session.input();
    if stdin {
        // Not joined: it may block on input.
        thread::spawn(move || input.copy(&mut io::stdin().lock()));
    } else {
        input.end()?;
    }
    loop {
        match session.next(deadline)? {
            Event::Output(data) => write(&mut io::stdout().lock(), &data)?,
            Event::Error(data) => write(&mut io::stderr().lock(), &data)?,
            Event::Exit(status) => return Ok(End::Exit(status)),
            Event::Timeout => return Ok(End::Timeout),
            Event::Gone => return Ok(End::Gone),
        }
    }
}

fn write(to: &mut impl Write, data: &[u8]) -> io::Result<()> {
    to.write_all(data)?;
    to.flush()
}

/// An interactive shell.
pub fn shell(agent: &Client) -> Result<ExitCode> {
    if !io::stdin().is_terminal() {
        bail!("`lab shell` needs a terminal; without one use `lab exec -- COMMAND`");
    }
    let size = tcgetwinsize(io::stdin())?;
    let script = format!("stty rows {} cols {}; exec bash -l", size.ws_row, size.ws_col);
    // socat creates a terminal for the shell in L1, which needs no unsafe code here.
    let argv = ["socat", "-d0", "STDIO", "EXEC:bash /run/lab-shell,pty,setsid,ctty,stderr,sane"];
    let prepare = format!("printf '%s\\n' '{script}' >/run/lab-shell; exec \"$@\"");
    let mut full = vec!["bash".to_owned(), "-c".to_owned(), prepare, "shell".to_owned()];
    full.extend(argv.map(str::to_owned));
    let env =
        vec![("TERM".to_owned(), std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned()))];
    let mut session = agent.start(&Start::Run { argv: full, env })?;
    let raw = Raw::enter()?;
    let end = stream(&mut session, true, None);
    drop(raw);
    match end? {
        End::Exit(status) => Ok(ExitCode::from(u8::try_from(status & 0xff)?)),
        _ => bail!("L1 is gone"),
    }
}

/// The terminal in raw mode, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
