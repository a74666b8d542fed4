//! What is done at each boundary of the journal: those who listen are told, and the crash tests served.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::{JournalEvent, Observer};
use tokio::sync::broadcast;
use tracing::{debug, warn};

/// How many events a slow listener may lag behind before it loses some.
const BACKLOG: usize = 256;

/// Hands the journal's boundaries to event streams.
///
/// Two variables in the environment are hooks for the crash tests and nothing else: `HANDOVER_TRACE_BOUNDARIES=FILE`
/// appends each boundary to FILE as a line of JSON, and `HANDOVER_KILL_AT=N` ends the process by SIGKILL at the N-th.
#[derive(Debug)]
pub struct Boundaries {
    sender: broadcast::Sender<JournalEvent>,
    reached: AtomicU64,
    kill_at: Option<u64>,
    trace: Option<File>,
}

impl Default for Boundaries {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Boundaries {
    /// With the hooks that the environment asks for.
    #[must_use]
    pub fn from_environment() -> Self {
        let kill_at = std::env::var("HANDOVER_KILL_AT").ok().and_then(|number| number.parse().ok());
        Self::new(kill_at, std::env::var_os("HANDOVER_TRACE_BOUNDARIES").map(PathBuf::from))
    }

    fn new(kill_at: Option<u64>, trace: Option<PathBuf>) -> Self {
        let open = |path: PathBuf| {
            let file = File::options().create(true).append(true).open(&path);
            file.inspect_err(|error| warn!(path = %path.display(), %error, "no trace")).ok()
        };
        let (sender, _) = broadcast::channel(BACKLOG);
        Self { sender, reached: AtomicU64::new(0), kill_at, trace: trace.and_then(open) }
    }

    /// Where event streams subscribe.
    #[must_use]
    pub fn events(&self) -> broadcast::Sender<JournalEvent> {
        self.sender.clone()
    }
}

impl Observer for Boundaries {
    fn reached(&self, event: &JournalEvent) {
        debug!("{}", event.describe());
        if let Some(mut trace) = self.trace.as_ref()
            && let Ok(mut line) = serde_json::to_vec(event)
        {
            line.push(b'\n');
            // One write each: a line is whole or not there.
            if let Err(error) = trace.write_all(&line) {
                warn!(%error, "cannot trace a boundary");
            }
        }
        let number = self.reached.fetch_add(1, Ordering::SeqCst) + 1;
        if self.kill_at == Some(number) {
            let this = rustix::process::getpid();
            // It cannot fail for a process's own id, and nothing runs after it.
            let _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
        }
        // Nobody listening is no error.
        let _ = self.sender.send(event.clone());
    }
}
