//! Benchmarks of creates and of the daemon on this machine, each with its limit.

mod choosing;
mod claims;
mod crowd;
mod daemon;
mod engine;
mod host;
mod instances;
pub mod listing;
pub mod syncs;
mod uevent;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

/// How long many clients send requests.
const CROWD: Duration = Duration::from_secs(60);

/// Measures something of this executable, and says what.
type Measure = fn(&Path) -> Result<String>;

/// What is measured, by name.
const FIGURES: [(&str, Measure); 10] = [
    ("choosing", |_| choosing::sets()),
    ("create", |_| engine::create()),
    ("steps", |_| claims::step()),
    ("syncs", |_| syncs::counted()),
    ("together", |_| claims::together()),
    ("rest", |_| claims::rest()),
    ("crowd", |_| crowd::crowd(CROWD)),
    ("start", daemon::start),
    ("instances", instances::list),
    ("uevent", |_| uevent::applied()),
];

/// Measures and prints everything, or one figure. `handover` is the executable of the daemon and of commands.
pub fn run(handover: &Path, only: Option<&str>) -> Result<()> {
    if let Some(only) = only.filter(|only| FIGURES.iter().all(|(name, _)| name != only)) {
        anyhow::bail!("unknown figure {only:?}: {}", FIGURES.map(|(name, _)| name).join(", "));
    }
    for (name, figure) in FIGURES {
        if only.is_none_or(|only| only == name) {
            println!("{}", figure(handover)?);
        }
    }
    Ok(())
}

/// One figure with its goal and its limit.
struct Figure {
    what: String,
    goal: &'static str,
    limit: String,
    times: Vec<Duration>,
}

impl Figure {
    fn line(mut self) -> String {
        self.times.sort();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let middle = ms(self.times.get(self.times.len() / 2));
        let (least, most) = (ms(self.times.first()), ms(self.times.last()));
        let mut text = format!("{}: median {middle:.2} ms (goal: {})", self.what, self.goal);
        let _ = write!(text, "\n    of {} runs, {least:.2} to {most:.2} ms", self.times.len());
        let _ = write!(text, "\n    limit: {}", self.limit);
        text
    }
}
