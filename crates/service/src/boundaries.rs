//! Observes the boundaries of the journal: for event streams and for crash tests.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::{JournalEvent, Observer};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::broadcast;
use tracing::{debug, warn};

/// How many events a slow subscriber may lag behind before it loses some.
const BACKLOG: usize = 256;

/// Sends the journal's boundaries to event streams.
///
/// Three environment variables are hooks for crash tests only: `HANDOVER_TRACE_BOUNDARIES=FILE` appends each boundary to
/// FILE as a line of JSON, `HANDOVER_KILL_AT=N` kills the process with SIGKILL at the N-th boundary, and
/// `HANDOVER_PAUSE_AT=N` stops it there with SIGSTOP, until SIGCONT.
#[derive(Debug)]
pub struct Boundaries {
    sender: broadcast::Sender<JournalEvent>,
    reached: AtomicU64,
    signal_at: Option<(u64, Signal)>,
    trace: Option<File>,
}

impl Default for Boundaries {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Boundaries {
    /// With the hooks that the environment sets.
    #[must_use]
    pub fn from_environment() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
        let kill = number("HANDOVER_KILL_AT").map(|at| (at, Signal::KILL));
        let pause = number("HANDOVER_PAUSE_AT").map(|at| (at, Signal::STOP));
        Self::new(kill.or(pause), std::env::var_os("HANDOVER_TRACE_BOUNDARIES").map(PathBuf::from))
    }

    fn new(signal_at: Option<(u64, Signal)>, trace: Option<PathBuf>) -> Self {
        let open = |path: PathBuf| {
            let file = File::options().create(true).append(true).open(&path);
            file.inspect_err(|error| warn!(path = %path.display(), %error, "cannot open the trace of boundaries")).ok()
        };
        let (sender, _) = broadcast::channel(BACKLOG);
        Self { sender, reached: AtomicU64::new(0), signal_at, trace: trace.and_then(open) }
    }

    /// The channel that event streams subscribe to.
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
            // One write per line, so that a crash leaves no partial line.
            if let Err(error) = trace.write_all(&line) {
                warn!(%error, "cannot trace a boundary");
            }
        }
        let number = self.reached.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((_, signal)) = self.signal_at.filter(|(at, _)| *at == number) {
            // Cannot fail for the own process id.
            let _ = kill_process(getpid(), signal);
            // Another thread may receive SIGSTOP: this one must not continue meanwhile.
            std::thread::sleep(Duration::from_millis(20));
        }
        // No subscriber is not an error.
        let _ = self.sender.send(event.clone());
    }
}
