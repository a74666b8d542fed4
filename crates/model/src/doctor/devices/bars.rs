//! Whether device memory fits into a guest's address space.

use super::{Case, Finding, Severity, about, listed, with_remedy};
use crate::{Function, Kind};

/// QEMU's default window for 64-bit device memory on q35 (`Q35_PCI_HOST_HOLE64_SIZE_DEFAULT` in hw/pci-host/q35.c);
/// OVMF uses the same if it does not know the processor's address width (`PcdPciMmio64Size`).
const DEFAULT_WINDOW: u64 = 32 << 30;

/// Compares the window that the assembly's 64-bit BARs need with the defaults and the host's address width.
pub fn window(case: &Case<'_>) -> Vec<Finding> {
    let total = case.guests().map(wide_bars).fold(0, u64::saturating_add);
    if total == 0 {
        return Vec::new();
    }
    // Each BAR is aligned to its own size, so twice the sum is enough in any order. Handover's machines use the same
    // rule.
    let Some(window) = total.checked_mul(2).and_then(u64::checked_next_power_of_two) else {
        return Vec::new();
    };
    let read = format!("the 64-bit BARs add up to {}", size(total));
    if let Some(finding) = too_wide(case, window, &read) {
        return vec![finding];
    }
    if window <= DEFAULT_WINDOW {
        let meaning = format!("they fit into QEMU's default window of {}", size(DEFAULT_WINDOW));
        return vec![case.finding("bar-window", Severity::Good, read, meaning)];
    }
    let meaning = format!(
        "a machine needs a window of {} for them, and QEMU's default is {}; Handover sets it for its machines",
        size(window),
        size(DEFAULT_WINDOW)
    );
    let mib = window >> 20;
    let words = format!(
        "for machines of other tools: `-global q35-pcihost.pci-hole64-size={mib}M`, with OVMF also `-fw_cfg \
         name=opt/ovmf/X-PciMmio64Mb,string={mib}`, and a CPU with host-phys-bits=on"
    );
    vec![with_remedy(case.finding("bar-window", Severity::Note, read, meaning), words, Vec::new())]
}

/// The sum of the 64-bit memory BARs, each rounded up to a power of two, without the expansion ROM.
fn wide_bars(function: &Function) -> u64 {
    let wide = function.bars.iter().filter(|bar| bar.index < 6 && !bar.io && bar.is_64bit);
    wide.filter_map(|bar| bar.size.checked_next_power_of_two()).fold(0, u64::saturating_add)
}

/// The window starts above the guest's memory at a multiple of its size, so it can end at twice its size. The processor
/// must be able to address that, and the IOMMU to translate it.
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
    let read = format!("{read}; {whose} {bits} address bits");
    let meaning = format!(
        "a machine needs a window of {} for them, which takes {needed} address bits: it may not start, or not see all \
         of the device's memory",
        size(window)
    );
    let finding = case.finding("bar-window", Severity::Warning, read, meaning);
    let words = "make the BARs smaller (disable Resizable BAR in the firmware setup), or use a host with more address \
                 bits";
    Some(with_remedy(finding, words, Vec::new()))
}

/// Resizable BARs.
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
            let meaning = "the machine accesses the device's memory through a small window, as the host does now; this \
                           slows some games and models, but not most software";
            let finding = about(address, "resizable-bar", Severity::Note, listed(small), meaning);
            let words = "enable Resizable BAR (and Above 4G Decoding) in the firmware setup: a machine cannot change \
                         the size that the host uses";
            return Some(with_remedy(finding, words, Vec::new()));
        }
        (!bars.is_empty()).then(|| {
            let read = listed(bars.iter().map(|bar| format!("BAR {} is {}", bar.index, size(bar.size))));
            about(address, "resizable-bar", Severity::Good, read, "it has the largest size")
        })
    })
    .collect()
}

/// Formats a size: `256 MiB`, `128.5 GiB`.
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
