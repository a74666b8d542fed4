//! The memory overhead of a machine (KubeVirt, pkg/hypervisor/kvm/hypervisorbackend.go).

use serde_json::Value;

use crate::quantity::Quantity;
use crate::values::Below as _;

/// The launcher's monitor, the launcher, virtlogd, virtqemud and QEMU itself, in MiB.
const PROCESSES: i64 = 25 + 100 + 25 + 40 + 50;
const PER_VCPU: i64 = 8;
const IO_THREAD: i64 = 8;
const VIDEO: i64 = 32;
const PFLASH_OF_ARM: i64 = 128;
/// With VFIO, all of the guest's memory and the BARs of its devices are locked.
const VFIO: i64 = 1024;
const DOWNWARD_METRICS: i64 = 1;
const PROBE: i64 = 10;
const PROBES: i64 = 100;
const ENCRYPTED: i64 = 256;
const TPM: i64 = 53;
const GUARANTEED: i64 = 100;

/// The overhead of an instance, by its `spec`.
pub fn of(spec: &Value) -> Quantity {
    let request = spec.quantity("domain.resources.requests.memory").unwrap_or(Quantity::ZERO);
    // Page tables: one bit per 512 bits of guest memory, in kilobytes as KubeVirt counts.
    let page_table = Quantity::decimal(request.thousands().saturating_mul(1000) / 512);
    let mut mebibytes = PROCESSES + IO_THREAD;
    mebibytes += PER_VCPU.saturating_mul(vcpus(spec).clamp(1, 1 << 30));
    let conditions = [
        (spec.switch("domain.devices.autoattachGraphicsDevice") != Some(false), VIDEO),
        (spec.text("architecture") == "arm64", PFLASH_OF_ARM),
        (has_vfio(spec), VFIO),
        (spec.list("volumes").iter().any(|one| one.has("downwardMetrics")), DOWNWARD_METRICS),
        (spec.has("livenessProbe.exec"), PROBE),
        (spec.has("readinessProbe.exec"), PROBE),
        (spec.has("livenessProbe.exec") || spec.has("readinessProbe.exec"), PROBES),
        (spec.has("domain.launchSecurity.sev") || spec.has("domain.launchSecurity.snp"), ENCRYPTED),
        (has_tpm(spec), TPM),
        (is_dedicated(spec) || is_guaranteed(spec), GUARANTEED),
    ];
    mebibytes += conditions.iter().filter(|(holds, _)| *holds).map(|(_, size)| size).sum::<i64>();
    let reserved = spec.quantity("domain.memory.reservedOverhead.addedOverhead");
    let all = page_table.plus(Quantity::mebibytes(mebibytes));
    reserved.map_or(all, |reserved| all.plus(reserved))
}

/// The number of virtual CPUs; 0 if not set.
pub fn vcpus(spec: &Value) -> i64 {
    let counts = ["cores", "sockets", "threads"].map(|f| spec.number(&format!("domain.cpu.{f}")));
    let said = counts.iter().filter(|count| **count > 0);
    let product = said.clone().fold(1_i64, |product, count| product.saturating_mul(*count));
    if said.count() == 0 { 0 } else { product }
}

/// Whether the machine has host devices.
pub fn has_vfio(spec: &Value) -> bool {
    !spec.list("domain.devices.gpus").is_empty()
        || !spec.list("domain.devices.hostDevices").is_empty()
        || spec.list("domain.devices.interfaces").iter().any(|interface| interface.has("sriov"))
}

/// Whether it has a TPM.
pub fn has_tpm(spec: &Value) -> bool {
    spec.has("domain.devices.tpm") && spec.switch("domain.devices.tpm.enabled") != Some(false)
}

/// Whether its CPUs are dedicated.
pub fn is_dedicated(spec: &Value) -> bool {
    spec.switch("domain.cpu.dedicatedCpuPlacement") == Some(true)
}

/// Whether requests and limits of CPUs and memory are equal.
pub fn is_guaranteed(spec: &Value) -> bool {
    let of = |list: &str, what: &str| {
        let path = format!("domain.resources.{list}.{what}");
        spec.quantity(&path).unwrap_or(Quantity::ZERO)
    };
    let (request, limit) = (of("requests", "memory"), of("limits", "memory"));
    let memory = if request.is_zero() { !limit.is_zero() } else { request == limit };
    let request = of("requests", "cpu");
    memory && !request.is_zero() && request == of("limits", "cpu")
}
