//! The agent: a process beside the command that does what the host asks for, over vsock.
//!
//! It gets its configuration and the command's state from the init on its standard input, and tells the init on its
//! standard output to stop. It knows a client by the token of this start, and accepts connections of the host only.

mod answers;
mod copy_in;
mod copy_out;
mod exec;
mod files;
mod session;
mod shared;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use guest_protocol::GuestConfig;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::session::Session;
use self::shared::{Newcomer, Shared};
use crate::{console, sys};

/// The role of the agent's process.
pub const AGENT: &str = "agent";

/// A client must make the handshake within this time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A client that reads nothing for this long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(300);
/// How long the agent waits after a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Threads need little.
const STACK: usize = 512 * 1024;

/// Runs until the machine ends.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::say(&format!("the agent ended: {error}; exec and cp do not work any more"));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // When memory is short, the host still reaches the machine.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    raise_files();
    let mut lines = BufReader::new(io::stdin());
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let config: GuestConfig = serde_json::from_str(&line)?;
    let Some(agent) = config.agent.clone() else { return Ok(()) };
    let listener = sys::listen(agent.port)?;
    let shared = Arc::new(Shared::new(config, agent.token));
    let states = Arc::clone(&shared);
    std::thread::Builder::new().stack_size(STACK).spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            states.set_state(&line);
        }
    })?;
    loop {
        let Ok(connection) = listener.accept() else {
            // No descriptors or memory, or a client that went at once: it passes.
            std::thread::sleep(ACCEPT_AGAIN);
            continue;
        };
        let connection = File::from(connection);
        let Some(newcomer) = Shared::admit(&shared) else { continue };
        let shared = Arc::clone(&shared);
        let begun = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            // What the client did wrong, it has heard; a broken connection has no listener.
            let _ = talk(&connection, &shared, newcomer);
        });
        // Without memory for a thread the connection is closed; others go on.
        drop(begun);
    }
}

/// Sessions need descriptors. Commands get their own limit from the stage.
fn raise_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn talk(
    connection: &File,
    shared: &Arc<Shared>,
    newcomer: Newcomer,
) -> Result<(), guest_protocol::ProtocolError> {
    let timeout =
        |which, time| set_socket_timeout(connection, which, time).map_err(io::Error::from);
    timeout(Timeout::Recv, Some(HANDSHAKE_WITHIN))?;
    timeout(Timeout::Send, Some(WRITE_WITHIN))?;
    let mut session = Session::new(connection, shared)?;
    if session.handshake()? {
        // From here on it counts as a session.
        drop(newcomer);
        timeout(Timeout::Recv, None)?;
        session.serve()?;
    }
    Ok(())
}
