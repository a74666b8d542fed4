//! From a QEMU that was just started to a running guest: connects to the monitor, checks the devices, then starts the
//! guest.

use std::collections::BTreeMap;
use std::time::Instant;

use model::{Display, MachineSpec};
use rustix::fd::OwnedFd;
use serde_json::{Value, json};

use super::argv::device_ids;
use super::qmp::Monitor;
use crate::process::{Control, ControlError, Pin};

/// Waits for the VMM, checks that the machine has every device, and starts the guest.
pub fn bring_up(
    spec: &MachineSpec,
    control: &Control<'_>,
    pin: Pin<'_>,
    deadline: Instant,
) -> Result<(), ControlError> {
    let mut monitor = Monitor::begin(control.connect(deadline)?, deadline)?;
    expect_devices(spec, &mut monitor, deadline)?;
    if spec.placement.as_ref().is_some_and(|placed| !placed.cpus.is_empty()) {
        pin(&vcpu_threads(&mut monitor, deadline)?)?;
    }
    set_password(spec, &mut monitor, deadline)?;
    monitor.execute("cont", json!({}), deadline)?;
    expect_running(&mut monitor, deadline)
}

/// The threads of the virtual processors, in their order.
fn vcpu_threads(monitor: &mut Monitor, deadline: Instant) -> Result<Vec<u32>, ControlError> {
    let answer = monitor.execute("query-cpus-fast", json!({}), deadline)?;
    let number = |cpu: &Value, name: &str| {
        cpu.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
    };
    let one = |cpu: &Value| Some((number(cpu, "cpu-index")?, number(cpu, "thread-id")?));
    let threads: Option<BTreeMap<u32, u32>> =
        answer.as_array().into_iter().flatten().map(one).collect();
    let malformed =
        || ControlError::Malformed("query-cpus-fast".into(), "a processor without a thread".into());
    threads.map(|threads| threads.into_values().collect()).ok_or_else(malformed)
}

/// Sets the password of viewers that reach the screen by its address. Before that, none is accepted.
fn set_password(
    spec: &MachineSpec,
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<(), ControlError> {
    let options = &spec.options;
    let (Some(display), Some(password)) = (options.display, &options.display_password) else {
        return Ok(());
    };
    let protocol = display.protocol.as_str();
    let password = json!({"protocol": protocol, "password": password.reveal()});
    monitor.execute("set_password", password, deadline).map(drop)
}

/// Sends one command to a machine's monitor.
pub fn send(control: &Control<'_>, command: &str, deadline: Instant) -> Result<(), ControlError> {
    let mut monitor = Monitor::begin(control.connect(deadline)?, deadline)?;
    match monitor.execute(command, json!({}), deadline) {
        // It may exit before it has answered.
        Err(ControlError::Closed) => Ok(()),
        answer => answer.map(|_| ()),
    }
}

/// Passes a viewer's connection to the display. Only root can connect to the monitor, so the viewer needs no password.
pub fn add_viewer(
    control: &Control<'_>,
    display: Display,
    viewer: &OwnedFd,
    deadline: Instant,
) -> Result<(), ControlError> {
    const NAME: &str = "viewer";
    let mut monitor = Monitor::begin(control.connect(deadline)?, deadline)?;
    monitor.pass(viewer, NAME, deadline)?;
    let protocol = display.protocol.as_str();
    let client = json!({"protocol": protocol, "fdname": NAME, "skipauth": true});
    monitor.execute("add_client", client, deadline).map(drop)
}

/// Checks the devices: those from the command line are children of `/machine/peripheral`.
fn expect_devices(
    spec: &MachineSpec,
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<(), ControlError> {
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
            Err(ControlError::Malformed("qom-list".into(), problem))
        }
    }
}

fn expect_running(monitor: &mut Monitor, deadline: Instant) -> Result<(), ControlError> {
    let status = monitor.execute("query-status", json!({}), deadline)?;
    if status.get("running").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    let state = status.get("status").and_then(Value::as_str).unwrap_or("unknown");
    Err(ControlError::Malformed(
        "query-status".into(),
        format!("the guest is not running (status {state})"),
    ))
}
