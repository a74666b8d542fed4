//! What instances use.

use engine::{Engine, Instance};
use model::{Refusal, Usage};

/// What the machine of an instance uses.
///
/// # Errors
/// `not_found`; `invalid_state` if it is unknown whether it runs; `internal`.
pub fn show(engine: &Engine, key: &str) -> Result<api::InstanceStats, Refusal> {
    let (instance, usage, measured_at) = engine.instances().usage(key)?;
    Ok(render(instance, usage, measured_at.to_string()))
}

fn render(instance: Instance, usage: Option<Usage>, measured_at: String) -> api::InstanceStats {
    let runs = usage.is_some();
    let usage = usage.unwrap_or_default();
    // A machine that does not run reads and sends nothing.
    let disks = usage.disks.or((!runs).then(Default::default));
    let network = usage.network.unwrap_or_default();
    api::InstanceStats {
        instance_id: instance.id.to_string(),
        instance_name: instance.name,
        measured_at,
        allocated_vcpus: instance.vcpus,
        allocated_memory_bytes: instance.memory,
        cpu_seconds: usage.cpu.as_secs_f64(),
        memory_rss_bytes: usage.resident,
        memory_vms_bytes: usage.address_space,
        memory_utilization_ratio: ratio(usage.resident, instance.memory),
        disk_read_bytes: disks.map(|disks| disks.read),
        disk_written_bytes: disks.map(|disks| disks.written),
        network_rx_bytes: network.received,
        network_tx_bytes: network.sent,
        network_measured: !runs || usage.network.is_some(),
    }
}

/// `part` of `whole`, if there is a whole.
#[expect(clippy::cast_precision_loss, reason = "a ratio needs no exact numbers")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_needs_a_whole() {
        assert_eq!(ratio(1, 0), None);
        assert_eq!(ratio(1 << 30, 4 << 30), Some(0.25));
    }
}
