//! Lines for the person who waits: what is being done, and how long it took. On stderr, so that a
//! command's own output stays clean.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// Says what is being done, does it, and says how long it took.
pub fn step<T, E>(what: impl Display, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    eprintln!("lab: {what} ...");
    let start = Instant::now();
    let result = work();
    let how = if result.is_ok() { "done in" } else { "failed after" };
    eprintln!("lab: {what}: {how} {}", seconds(start.elapsed()));
    result
}

/// Says one thing.
pub fn note(what: impl Display) {
    eprintln!("lab: {what}");
}

/// A duration as a person reads it.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
