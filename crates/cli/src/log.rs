//! The daemon's log, on standard error. A reader that does not read must not stop the daemon: lines go through a queue to a
//! thread of their own, and are dropped and counted while the queue is full.

use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::terminal::{self, LogLines};

/// How many lines wait for a slow reader.
const LINES: usize = 1000;

/// How long the last lines may take.
const END: Duration = Duration::from_millis(1500);

/// How often to check whether lines were dropped.
const EVERY: Duration = Duration::from_secs(10);

/// The log, until dropped: lines that still wait are written then, for [`END`] at most.
pub struct Log(Option<WorkerGuard>);

impl Drop for Log {
    fn drop(&mut self) {
        let Some(guard) = self.0.take() else { return };
        let (done, ended) = std::sync::mpsc::channel();
        // The guard itself can wait without end for a reader that does not read.
        let flushing = std::thread::Builder::new().name("log-end".into()).spawn(move || {
            drop(guard);
            let _ = done.send(());
        });
        if flushing.is_ok() {
            let _ = ended.recv_timeout(END);
        }
    }
}

/// Starts logging.
pub fn start(filter: &str) -> Log {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let styled = terminal::shows_errors();
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .lossy(true)
        .finish(LogLines::new(styled));
    let dropped = writer.error_counter();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false)
        .with_ansi(styled);
    // journald has the time of each line.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
    let counting = std::thread::Builder::new().name("log".into());
    if let Err(error) = counting.spawn(move || report(&dropped)) {
        tracing::warn!("dropped lines will not be counted: {error}");
    }
    Log(Some(guard))
}

/// Reports dropped lines, until the process ends.
fn report(dropped: &ErrorCounter) {
    let mut reported = 0;
    loop {
        std::thread::sleep(EVERY);
        let now = dropped.dropped_lines();
        if now > reported {
            tracing::warn!(
                "{} lines of this log were dropped: its reader is too slow",
                now - reported
            );
            // The line itself may have been dropped too.
            if dropped.dropped_lines() == now {
                reported = now;
            }
        }
    }
}
