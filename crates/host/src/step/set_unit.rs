//! Starting and stopping a systemd unit.

use std::time::Duration;

use model::{HostError, Observed};
use rustix::io::Errno;

use crate::problem;
use crate::root::Root;
use crate::systemd::{Change, Systemd};

/// How long a job may take: less than the step's deadline, so that the worker returns in time.
const JOB: Duration = Duration::from_secs(45);

/// Asks systemd for the unit's state. A unit between two states counts as before: repeating the step waits for the job.
pub fn observe(root: &Root, unit: &str, to: bool) -> Result<Observed, HostError> {
    check(root, unit)?;
    let Some(state) = Systemd::connect(root)?.state(unit)? else { return Ok(Observed::Absent) };
    Ok(if is(&state, to) { Observed::After } else { Observed::Before })
}

/// Whether a state counts as active, or as inactive (`unit_active_state` in systemd's src/basic/unit-def.c).
fn is(state: &str, active: bool) -> bool {
    match state {
        "active" | "reloading" | "refreshing" => active,
        "inactive" | "failed" => !active,
        _ => false,
    }
}

/// Describes a unit that systemd does not know.
pub fn missing(unit: &str) -> String {
    format!("no unit {unit}")
}

/// Starts or stops a unit, and waits for the end of the job.
pub fn set(root: &Root, unit: &str, to: bool) -> Result<(), HostError> {
    check(root, unit)?;
    let systemd = Systemd::connect(root)?;
    let change = if to { Change::Start } else { Change::Stop };
    let done = systemd.change(unit, change, JOB)?;
    let state = systemd.state(unit)?.unwrap_or_else(|| "not found".into());
    if is(&state, to) {
        return Ok(());
    }
    let late = if done { "" } else { " (its job is still running)" };
    let found = format!("state {state}{late}; see `systemctl status {unit}`");
    Err(HostError::Check { step: format!("{} {unit}", if to { "start" } else { "stop" }), found })
}

/// Checks a unit's name: these characters, and a suffix (systemd.unit(5)).
fn check(root: &Root, unit: &str) -> Result<(), HostError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    let valid = unit.len() < 256
        && unit.bytes().all(plain)
        && unit.rsplit_once('.').is_some_and(|(name, end)| !name.is_empty() && !end.is_empty());
    if valid {
        return Ok(());
    }
    let reason =
        format!("{unit:?} cannot be the name of a unit such as nvidia-persistenced.service");
    Err(problem::because(root, "search", "run/systemd", Errno::INVAL, reason))
}
