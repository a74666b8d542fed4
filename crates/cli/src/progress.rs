//! Shows what a command waits for: the daemon's steps as it performs them, or a line with the time.

use std::pin::pin;
use std::time::Duration;

use anstyle::Style;
use api::client::{Client, Lines};
use indicatif::{ProgressBar, ProgressStyle};
use model::shown::escaped;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::terminal;

/// An answer that comes sooner needs no line.
const SOON: Duration = Duration::from_millis(800);

/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(200);

/// Waits for an answer. If it takes long and standard error is a terminal, a line there says what this program waits for, and
/// since when. It is gone afterwards.
pub async fn waiting<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    if !terminal::shows_errors() {
        return answer.await;
    }
    tokio::select! {
        answer = &mut answer => return answer,
        () = tokio::time::sleep(SOON) => {}
    }
    let line = ProgressBar::new_spinner().with_message(escaped(what).into_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        line.set_style(style);
    }
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            answer = &mut answer => {
                line.finish_and_clear();
                return answer;
            }
            _ = tick.tick() => line.tick(),
        }
    }
}

/// The fields of a journal event that progress needs.
#[derive(Deserialize)]
struct Event {
    event: String,
    subject: String,
    operation: Option<String>,
    words: String,
}

/// The progress of one operation, printed to a terminal.
pub struct Progress(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Progress {
    /// Starts to listen if standard error is a terminal. Without events there is no progress, and no error.
    pub async fn of(client: &Client, operation: &'static str, quiet: bool) -> Self {
        if quiet || !terminal::shows_errors() {
            return Self(None);
        }
        let Ok(lines) = client.lines("/events").await else { return Self(None) };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = follow(lines, operation) => {}
                _ = stopped => {}
            }
        });
        Self(Some((stop, task)))
    }

    /// Stops listening.
    pub async fn end(self) {
        if let Self(Some((stop, task))) = self {
            // Both fail only if the task has already ended.
            let _ = stop.send(());
            let _ = task.await;
        }
    }
}

/// Prints the steps of the first operation of this kind that begins: it is the one just requested.
async fn follow(mut lines: Lines, operation: &str) {
    let mut subject = None;
    let dim = Style::new().dimmed();
    while let Ok(Some(data)) = lines.next().await {
        let Ok(event) = serde_json::from_str::<Event>(&data) else { continue };
        if subject.is_none() && event.operation.as_deref() == Some(operation) {
            subject = Some(event.subject.clone());
        }
        if subject.as_deref() == Some(event.subject.as_str()) && event.event == "intended" {
            terminal::report(&format!("{dim}· {}{dim:#}\n", escaped(&event.words)));
        }
    }
}
