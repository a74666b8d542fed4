//! Starting and stopping a unit of systemd's.

use std::time::Duration;

use model::{HostError, Observed};
use rustix::io::Errno;

use crate::problem;
use crate::root::Root;
use crate::systemd::{Change, Systemd};

/// How long a job may take: less than the step's deadline, so that the worker comes back.
const JOB: Duration = Duration::from_secs(45);

/// What systemd says. Between two states it is not there yet: who does the step again waits for the job.
pub fn observe(root: &Root, unit: &str, to: bool) -> Result<Observed, HostError> {
    check(root, unit)?;
    let Some(state) = Systemd::connect(root)?.state(unit)? else { return Ok(Observed::Absent) };
    Ok(if is(&state, to) { Observed::After } else { Observed::Before })
}

/// Whether a state is the wanted one (`unit_active_state` in systemd's src/basic/unit-def.c).
fn is(state: &str, active: bool) -> bool {
    match state {
        "active" | "reloading" | "refreshing" => active,
        "inactive" | "failed" => !active,
        _ => false,
    }
}

/// What is missing where systemd does not know it.
pub fn missing(unit: &str) -> String {
    format!("no unit {unit}")
}

/// Starts or stops it, and waits until systemd has done so.
pub fn set(root: &Root, unit: &str, to: bool) -> Result<(), HostError> {
    check(root, unit)?;
    let systemd = Systemd::connect(root)?;
    let change = if to { Change::Start } else { Change::Stop };
    let done = systemd.change(unit, change, JOB)?;
    let state = systemd.state(unit)?.unwrap_or_else(|| "not there".into());
    if is(&state, to) {
        return Ok(());
    }
    let late = if done { "" } else { ": its job goes on" };
    let found = format!("it {state}{late}; see `systemctl status {unit}`");
    Err(HostError::Check { step: format!("{} {unit}", if to { "start" } else { "stop" }), found })
}

/// Names of units have these characters and an ending (systemd.unit(5)).
fn check(root: &Root, unit: &str) -> Result<(), HostError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    let right = unit.len() < 256
        && unit.bytes().all(plain)
        && unit.rsplit_once('.').is_some_and(|(name, end)| !name.is_empty() && !end.is_empty());
    if right {
        return Ok(());
    }
    let reason =
        format!("{unit:?} cannot be the name of a unit such as nvidia-persistenced.service");
    Err(problem::because(root, "look for", "run/systemd", Errno::INVAL, reason))
}
