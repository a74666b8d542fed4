//! Pausing and resuming a guest, and why QEMU has stopped it without a request (QMP `query-status`, `query-block`).

use std::thread;
use std::time::{Duration, Instant};

use model::{Execution, Halt};
use serde_json::{Value, json};

use super::qmp::Monitor;
use crate::process::{ControlError, printable};

/// How long a guest is observed that was stopped by a full disk and resumed: QEMU repeats its writes in the background
/// (virtio_blk_dma_restart_cb in hw/block/virtio-blk.c), and stops it again if there is still no space.
const OBSERVED: Duration = Duration::from_millis(500);
const BETWEEN: Duration = Duration::from_millis(50);

/// Whether the guest executes.
///
/// # Errors
/// The monitor does not answer, or its answer has no status.
pub fn execution(monitor: &mut Monitor, deadline: Instant) -> Result<Execution, ControlError> {
    let status = monitor.execute("query-status", json!({}), deadline)?;
    let word = status.get("status").and_then(Value::as_str).unwrap_or_default();
    // RunState in qapi/run-state.json.
    Ok(match word {
        "running" => Execution::Running,
        "paused" | "prelaunch" => Execution::Paused,
        "io-error" => {
            let blocks = monitor.execute("query-block", json!({}), deadline)?;
            Execution::Halted(disk_fault(&blocks))
        }
        "internal-error" => Execution::Halted(Halt::InternalError),
        "guest-panicked" => Execution::Halted(Halt::Crashed),
        "suspended" => Execution::Halted(Halt::Asleep),
        "shutdown" => Execution::Halted(Halt::ShutDown),
        "" => {
            return Err(ControlError::Malformed("query-status".into(), "no status".into()));
        }
        other => Execution::Halted(Halt::Other(printable(other))),
    })
}

/// Pauses the guest, and returns what it does then.
///
/// # Errors
/// As [`execution`].
pub fn pause(monitor: &mut Monitor, deadline: Instant) -> Result<Execution, ControlError> {
    monitor.execute("stop", json!({}), deadline)?;
    execution(monitor, deadline)
}

/// Lets the guest continue, and returns what it does then.
///
/// # Errors
/// As [`execution`], or QEMU refuses.
pub fn resume(monitor: &mut Monitor, deadline: Instant) -> Result<Execution, ControlError> {
    let before = execution(monitor, deadline)?;
    let command = match &before {
        Execution::Running => return Ok(before),
        // `cont` refuses: QEMU would have to reset the machine first (runstate_needs_reset).
        Execution::Halted(halt) if !halt.can_continue() => return Ok(before),
        Execution::Halted(Halt::Asleep) => "system_wakeup",
        Execution::Paused | Execution::Halted(_) => "cont",
    };
    monitor.execute(command, json!({}), deadline)?;
    let mut now = execution(monitor, deadline)?;
    let until = (Instant::now() + OBSERVED).min(deadline);
    let may_stop_again = matches!(before, Execution::Halted(Halt::DiskFull | Halt::DiskFailed));
    while may_stop_again && now == Execution::Running && Instant::now() + BETWEEN < until {
        thread::sleep(BETWEEN);
        now = execution(monitor, deadline)?;
    }
    Ok(now)
}

/// What a disk did that stopped the guest, in the answer of `query-block`.
fn disk_fault(blocks: &Value) -> Halt {
    let has = |word: &str| {
        let mut disks = blocks.as_array().into_iter().flatten();
        disks.any(|disk| disk.get("io-status").and_then(Value::as_str) == Some(word))
    };
    if has("nospace") { Halt::DiskFull } else { Halt::DiskFailed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_failed_one() {
        let disks = |status: &str| json!([{"device": "", "io-status": "ok"}, {"device": "", "io-status": status}, {}]);
        assert_eq!(disk_fault(&disks("nospace")), Halt::DiskFull);
        assert_eq!(disk_fault(&disks("failed")), Halt::DiskFailed);
        for broken in [json!(null), json!({}), json!([null, {"io-status": 7}])] {
            assert_eq!(disk_fault(&broken), Halt::DiskFailed);
        }
    }
}
