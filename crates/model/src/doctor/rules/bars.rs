//! Kernels and QEMUs that map large BARs slowly.

use super::super::{Finding, Patient, Remedy, version};
use super::{good, tools, warning};
use crate::format_size;

/// Mapping BARs of this size and larger is noticeably slow.
const LARGE: u64 = 32 << 30;
/// Both need support for huge PFN mappings.
const KERNEL: (u32, u32) = (6, 12);
const QEMU: (u32, u32) = (9, 2);

pub fn slow(patient: Patient<'_>) -> Vec<Finding> {
    let Patient { inventory, platform, .. } = patient;
    let large = inventory.functions.values().filter_map(|function| {
        let largest = function.bars.iter().filter(|bar| !bar.io).max_by_key(|bar| bar.size)?;
        (largest.size >= LARGE).then_some((function.address, largest.size))
    });
    let large: Vec<_> = large.collect();
    let Some((address, size)) = large.iter().max_by_key(|(_, size)| *size) else {
        return vec![good("no BAR has 32 GB or more", "devices are mapped into machines quickly")];
    };
    let kernel = platform.kernel_version().filter(|version| *version < KERNEL);
    let qemu = tools::qemu_version(platform).filter(|text| version(text).is_some_and(|v| v < QEMU));
    let mut old = Vec::new();
    if kernel.is_some() {
        old.push(format!("Linux {}", platform.kernel.as_deref().unwrap_or_default()));
    }
    old.extend(qemu.map(|version| format!("QEMU {version}")));
    let read = format!(
        "{} with a BAR of 32 GB or more, such as {address} with {}",
        if large.len() == 1 {
            "1 function".to_owned()
        } else {
            format!("{} functions", large.len())
        },
        format_size(*size)
    );
    if old.is_empty() {
        return vec![good(read, "this kernel and QEMU use huge mappings")];
    }
    let read = format!("{read}; {}", old.join(" and "));
    let meaning = "mapping 32 GB takes about a second each time a machine starts or its guest moves the BAR; with \
                   several such devices, booting takes minutes";
    let remedy = Remedy::words("use Linux 6.12 and QEMU 9.2 or newer, which use huge mappings");
    vec![warning(read, meaning).with_remedy(remedy)]
}
