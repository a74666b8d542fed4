//! What a guest has read from and written to its disks (QMP `query-blockstats`).

use std::time::Instant;

use model::DiskUsage;
use serde_json::{Value, json};

use super::qmp::Monitor;
use crate::process::ControlError;

/// The path of devices of the command line. The firmware's flash is not below it.
const DEVICES: &str = "/machine/peripheral/";

/// Asks the monitor.
///
/// # Errors
/// It does not answer.
pub fn disk_usage(monitor: &mut Monitor, deadline: Instant) -> Result<DiskUsage, ControlError> {
    let stats = monitor.execute("query-blockstats", json!({}), deadline)?;
    Ok(sum(&stats))
}

/// The sum over the disks of the guest.
fn sum(stats: &Value) -> DiskUsage {
    let mut usage = DiskUsage::default();
    for disk in stats.as_array().into_iter().flatten() {
        let device = disk.get("qdev").and_then(Value::as_str).unwrap_or_default();
        if !device.starts_with(DEVICES) {
            continue;
        }
        let bytes = |field: &str| {
            let value = disk.get("stats").and_then(|stats| stats.get(field));
            value.and_then(Value::as_u64).unwrap_or_default()
        };
        usage.read = usage.read.saturating_add(bytes("rd_bytes"));
        usage.written = usage.written.saturating_add(bytes("wr_bytes"));
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disks_of_the_guest_are_counted_and_nothing_else() {
        let disk = |qdev: &str, read: u64, written: u64| json!({"qdev": qdev, "stats": {"rd_bytes": read, "wr_bytes": written}});
        let stats = json!([
            disk("/machine/peripheral/disk0/virtio-backend", 100, 7),
            disk("/machine/peripheral/seed/virtio-backend", 20, 0),
            disk("/machine/system.flash1", 4096, 4096),
            {"device": "", "stats": {"rd_bytes": 1}},
        ]);
        assert_eq!(sum(&stats), DiskUsage { read: 120, written: 7 });
    }

    #[test]
    fn no_answer_panics() {
        let most = json!({"qdev": "/machine/peripheral/a", "stats": {"rd_bytes": u64::MAX, "wr_bytes": -1}});
        let stats = json!([most, most, null, {"qdev": 3}]);
        assert_eq!(sum(&stats), DiskUsage { read: u64::MAX, written: 0 });
        assert_eq!(sum(&json!("x")), DiskUsage::default());
    }
}
