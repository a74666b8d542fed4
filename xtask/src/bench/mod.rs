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

/// Measures and prints everything. `handover` is the executable of the daemon.
pub fn run(handover: &Path) -> Result<()> {
    println!("{}", choosing::sets()?);
    println!("{}", engine::create()?);
    println!("{}", claims::step()?);
    println!("{}", syncs::counted()?);
    println!("{}", claims::together()?);
    println!("{}", claims::rest()?);
    println!("{}", crowd::crowd(CROWD)?);
    println!("{}", daemon::start(handover)?);
    println!("{}", instances::list(handover)?);
    println!("{}", uevent::applied()?);
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
