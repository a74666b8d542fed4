//! Device memory: whether it fits into a guest's address space.

use super::{Case, Finding, Severity, about, listed, mended};
use crate::{Function, Kind};

/// What QEMU gives a q35 machine for 64-bit device memory (`Q35_PCI_HOST_HOLE64_SIZE_DEFAULT` in hw/pci-host/q35.c); OVMF
/// takes the same where it does not know the processor's address width (`PcdPciMmio64Size`).
const DEFAULT_WINDOW: u64 = 32 << 30;

/// The window that the assembly's 64-bit BARs need, against the defaults and against the host's address width.
pub fn window(case: &Case<'_>) -> Vec<Finding> {
    let total = case.guests().map(wide_bars).fold(0, u64::saturating_add);
    if total == 0 {
        return Vec::new();
    }
    // Each BAR is aligned to its own size, so twice the sum is enough in any order: as Handover's own machines have it.
    let Some(window) = total.checked_mul(2).and_then(u64::checked_next_power_of_two) else {
        return Vec::new();
    };
    let read = format!("the 64-bit BARs add up to {}", size(total));
    if let Some(finding) = too_wide(case, window, &read) {
        return vec![finding];
    }
    if window <= DEFAULT_WINDOW {
        let meaning =
            format!("they fit into the {} that QEMU gives every machine", size(DEFAULT_WINDOW));
        return vec![case.says("bar-window", Severity::Good, read, meaning)];
    }
    let meaning = format!(
        "a machine needs a window of {} for them, and QEMU gives {}; Handover sets it in its own machines",
        size(window),
        size(DEFAULT_WINDOW)
    );
    let mib = window >> 20;
    let words = format!(
        "for a machine of another tool's: `-global q35-pcihost.pci-hole64-size={mib}M`, with OVMF also `-fw_cfg \
         name=opt/ovmf/X-PciMmio64Mb,string={mib}`, and a processor with host-phys-bits=on"
    );
    vec![mended(case.says("bar-window", Severity::Note, read, meaning), words, Vec::new())]
}

/// The sum of the 64-bit memory BARs, each rounded up to a power of two. The expansion ROM is no BAR.
fn wide_bars(function: &Function) -> u64 {
    let wide = function.bars.iter().filter(|bar| bar.index < 6 && !bar.io && bar.is_64bit);
    wide.filter_map(|bar| bar.size.checked_next_power_of_two()).fold(0, u64::saturating_add)
}

/// The window begins above the guest's memory at a multiple of its size, so it can end at twice its size: that must be
/// within what the processor can address and the IOMMU can translate.
fn too_wide(case: &Case<'_>, window: u64, read: &str) -> Option<Finding> {
    let platform = case.patient.platform;
    let iommu = platform.iommus.iter().filter_map(|iommu| iommu.address_bits).min();
    let (bits, whose) = match (platform.cpu.physical_bits, iommu) {
        (Some(cpu), Some(iommu)) if iommu < cpu => (iommu, "the IOMMU translates"),
        (Some(cpu), _) => (cpu, "the processor has"),
        (None, Some(iommu)) => (iommu, "the IOMMU translates"),
        (None, None) => return None,
    };
    let needed = window.trailing_zeros() + 1;
    if needed <= u32::from(bits) {
        return None;
    }
    let read = format!("{read}; {whose} {bits} bits of address");
    let meaning = format!(
        "a machine needs a window of {} for them, which wants {needed} bits: it may not start, or not see all of the \
         device's memory",
        size(window)
    );
    let finding = case.says("bar-window", Severity::Warning, read, meaning);
    let words = "make the BARs smaller: switch Resizable BAR off in the firmware's setup, or hand the device over on a \
                 host with wider addresses";
    Some(mended(finding, words, Vec::new()))
}

/// BARs whose size can be chosen.
pub fn resizable(case: &Case<'_>) -> Vec<Finding> {
    let gpus = case.guests().filter(|function| function.kind() == Kind::Gpu);
    gpus.filter_map(|function| {
        let bars = &function.detail.as_deref()?.resizable_bars;
        let small: Vec<String> = bars
            .iter()
            .filter(|bar| bar.size < bar.largest)
            .map(|bar| format!("BAR {} is {} and could be {}", bar.index, size(bar.size), size(bar.largest)))
            .collect();
        let address = function.address;
        if !small.is_empty() {
            let meaning = "the machine sees the device's memory through a small window, as the host does now; most \
                           software does not mind, some games and models do";
            let finding = about(address, "resizable-bar", Severity::Note, listed(small), meaning);
            let words = "switch Resizable BAR (and Above 4G Decoding) on in the firmware's setup: a machine cannot change \
                         the size, it gets what the host has";
            return Some(mended(finding, words, Vec::new()));
        }
        (!bars.is_empty()).then(|| {
            let read = listed(bars.iter().map(|bar| format!("BAR {} is {}", bar.index, size(bar.size))));
            about(address, "resizable-bar", Severity::Good, read, "it is as large as it can be")
        })
    })
    .collect()
}

/// A size for a person: `256 MiB`, `128.5 GiB`.
fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((shift, unit)) = units.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        rest => format!("{}.{rest} {unit}", tenths / 10),
    }
}
