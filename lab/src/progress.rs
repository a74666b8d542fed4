//! Progress messages with durations, on standard error.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// Does some work, and prints its name before and its duration afterwards.
pub fn step<T, E>(name: impl Display, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    eprintln!("lab: {name} ...");
    let start = Instant::now();
    let result = work();
    let how = if result.is_ok() { "done in" } else { "failed after" };
    eprintln!("lab: {name}: {how} {}", seconds(start.elapsed()));
    result
}

/// Prints a message.
pub fn note(message: impl Display) {
    eprintln!("lab: {message}");
}

/// Formats a duration.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
