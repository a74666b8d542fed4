//! From a launcher that was just started to a guest that runs: the monitor is reached, the devices are counted, then
//! the guest is let go.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use model::{LaunchError, MachineSpec};
use serde_json::{Value, json};

use super::argv::device_ids;
use super::blame;
use super::files::Files;
use super::qmp::{Monitor, MonitorError};
use crate::identity::RunDir;
use crate::process::Watch;

/// How long a machine may take to start: QEMU itself, and each function: opening one can reset it, and its memory is
/// mapped one after another. An emulated host is slow.
const START: Duration = Duration::from_secs(60);
const START_FUNCTION: Duration = Duration::from_secs(30);

/// How long QEMU may take to end after it closed its monitor.
const LAST_WORDS: Duration = Duration::from_secs(10);

const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// Waits for the VMM, checks that it has every device, and lets the guest run.
pub fn bring_up(
    spec: &MachineSpec,
    watch: &Watch,
    run: &RunDir,
    files: &Files,
) -> Result<(), LaunchError> {
    let functions: usize = spec.slots.iter().map(|slot| slot.functions.len()).sum();
    let patience = START + START_FUNCTION * u32::try_from(functions).unwrap_or(u32::MAX);
    let deadline = Instant::now() + patience;
    let started = connect(run, Some(watch), deadline).and_then(|mut monitor| {
        expect_devices(spec, &mut monitor, deadline)?;
        monitor.execute("cont", json!({}), deadline)?;
        expect_running(&mut monitor, deadline)
    });
    started.map_err(|error| explain(error, watch, files, patience))
}

/// Gives one command to a machine's monitor.
pub fn ask(run: &RunDir, command: &str, deadline: Instant) -> Result<(), MonitorError> {
    let mut monitor = connect(run, None, deadline)?;
    match monitor.execute(command, json!({}), deadline) {
        // It may end before it has answered.
        Err(MonitorError::Closed) => Ok(()),
        answer => answer.map(|_| ()),
    }
}

/// Connects to the monitor. Where a VMM is just being started, its socket is waited for while its process lives.
fn connect(
    run: &RunDir,
    starting: Option<&Watch>,
    deadline: Instant,
) -> Result<Monitor, MonitorError> {
    loop {
        match (UnixStream::connect(run.monitor()), starting) {
            (Ok(stream), _) => return Monitor::begin(stream, deadline),
            (Err(error), None) => return Err(error.into()),
            (Err(_), Some(watch)) => {
                if watch.wait(Some(Duration::ZERO))?.is_some() {
                    return Err(MonitorError::Closed);
                }
                if Instant::now() > deadline {
                    return Err(MonitorError::Deadline("the connection".into()));
                }
                thread::sleep(BETWEEN_TRIES);
            }
        }
    }
}

/// Devices that were named on the command line are children of `/machine/peripheral`.
fn expect_devices(
    spec: &MachineSpec,
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<(), MonitorError> {
    let listing = monitor.execute("qom-list", json!({"path": "/machine/peripheral"}), deadline)?;
    let names: Vec<&str> = listing
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|child| child.get("name").and_then(Value::as_str))
        .collect();
    match device_ids(spec).into_iter().find(|id| !names.contains(&id.as_str())) {
        None => Ok(()),
        Some(id) => {
            let problem = format!("the machine has no device {id}");
            Err(MonitorError::Malformed("qom-list".into(), problem))
        }
    }
}

fn expect_running(monitor: &mut Monitor, deadline: Instant) -> Result<(), MonitorError> {
    let status = monitor.execute("query-status", json!({}), deadline)?;
    if status.get("running").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    let state = status.get("status").and_then(Value::as_str).unwrap_or("unknown");
    Err(MonitorError::Malformed(
        "query-status".into(),
        format!("the guest is not running, but {state}"),
    ))
}

/// What a failed start means: where the VMM ended, its last words say why.
fn explain(error: MonitorError, watch: &Watch, files: &Files, patience: Duration) -> LaunchError {
    let last_words = match error {
        MonitorError::Closed | MonitorError::Io(_) => LAST_WORDS,
        _ => Duration::ZERO,
    };
    if let Ok(Some(_)) = watch.wait(Some(last_words)) {
        return LaunchError::Start { reason: blame::reason(&files.log_end()) };
    }
    match error {
        MonitorError::Deadline(_) => {
            LaunchError::Deadline { action: "start".into(), seconds: patience.as_secs() }
        }
        MonitorError::Refused(_, reason) => {
            LaunchError::Start { reason: blame::printable(&reason) }
        }
        error => LaunchError::Monitor { reason: blame::printable(&error.to_string()) },
    }
}
