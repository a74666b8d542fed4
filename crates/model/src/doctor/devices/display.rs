//! The host's console: a GPU that the firmware and the kernel draw on.

use super::{Case, Finding, Severity, listed, with_remedy};
use crate::doctor::{Framebuffer, Platform, Remedy, remedy};
use crate::{Bar, Function, Kind};

/// Whether the host's console runs on the GPU.
pub fn boot_vga(case: &Case<'_>) -> Vec<Finding> {
    let Some(gpu) = case.taken().find(|function| function.boot_vga) else {
        let gpu = case.head.kind() == Kind::Gpu && case.head.physical_function.is_none();
        return if gpu {
            vec![case.finding(
                "boot-vga",
                Severity::Good,
                "boot_vga is not set",
                "the host's console is not on it",
            )]
        } else {
            Vec::new()
        };
    };
    let address = gpu.address;
    let others = case.patient.inventory.functions.values();
    let another = others
        .filter(|other| other.kind() == Kind::Gpu && other.physical_function.is_none())
        .any(|other| !other.address.same_slot(address));
    let (meaning, words) = if another {
        (
            "the firmware chose it as the primary display: the host's console goes dark when it is handed over",
            "choose another GPU as the primary display in the firmware setup",
        )
    } else {
        (
            "it is the host's only display: after the hand-over, the host is reachable only by network or serial \
             console",
            "before the hand-over, make sure that you can reach the host without a display, for example by ssh; \
             `--take-display` ends the desktop and the console for a claim or a machine, and brings them back",
        )
    };
    let finding =
        case.finding("boot-vga", Severity::Note, format!("{address} has boot_vga set"), meaning);
    vec![with_remedy(finding, words, Vec::new())]
}

/// Firmware framebuffers on a BAR.
pub fn boot_framebuffer(case: &Case<'_>) -> Vec<Finding> {
    let platform = case.patient.platform;
    let mut findings = Vec::new();
    for function in case.taken() {
        for (bar, framebuffers) in on_bars(function, platform) {
            findings.push(framebuffer_on_bar(case, function, bar, &framebuffers));
        }
    }
    let known = case.taken().flat_map(|f| &f.bars).any(|bar| bar.start != 0);
    if findings.is_empty() && known && case.head.kind() == Kind::Gpu {
        let read = "no firmware framebuffer in /proc/iomem overlaps its BARs";
        findings.push(case.finding(
            "boot-framebuffer",
            Severity::Good,
            read,
            "vfio-pci can reserve its BARs",
        ));
    }
    findings
}

/// The BARs that framebuffers overlap. One framebuffer has several names: the kernel's reservation, and inside it that
/// of the driver.
fn on_bars<'a>(
    function: &'a Function,
    platform: &'a Platform,
) -> impl Iterator<Item = (&'a Bar, Vec<&'a Framebuffer>)> {
    let bars = function.bars.iter().filter(|bar| !bar.io && bar.start != 0 && bar.size != 0);
    let covered = move |bar: &'a Bar| {
        let end = bar.start.saturating_add(bar.size - 1);
        let overlaps = move |f: &&Framebuffer| f.start <= end && f.end >= bar.start;
        (bar, platform.framebuffers.iter().filter(overlaps).collect::<Vec<_>>())
    };
    bars.map(covered).filter(|(_, framebuffers)| !framebuffers.is_empty())
}

/// Since Linux 6.0 vfio-pci removes the console when it binds to a VGA function (`vfio_pci_vga_init` calls
/// `aperture_remove_conflicting_pci_devices`); other display classes keep it, and reports of kernels as new as 6.18
/// show that it can stay (siderolabs/talos issue 14356).
fn framebuffer_on_bar(
    case: &Case<'_>,
    function: &Function,
    bar: &Bar,
    framebuffers: &[&Framebuffer],
) -> Finding {
    let platform = case.patient.platform;
    let vga = function.class.prefix() == 0x0300;
    let sent_away = vga && platform.kernel_version().is_some_and(|version| version >= (6, 0));
    let start = framebuffers.iter().map(|framebuffer| framebuffer.start).min().unwrap_or_default();
    let end = framebuffers.iter().map(|framebuffer| framebuffer.end).max().unwrap_or_default();
    let names = listed(framebuffers.iter().map(|framebuffer| &framebuffer.name));
    let lies = if framebuffers.len() == 1 { "lies" } else { "lie" };
    let read = format!(
        "{names} at {start:#x}-{end:#x} (/proc/iomem) {lies} on BAR {} of {}",
        bar.index, function.address
    );
    let (severity, meaning) = if sent_away {
        (
            Severity::Warning,
            "vfio-pci removes the console when it binds the device; if that fails, the machine gets a dead device \
             (\"can't reserve BAR\" in the kernel log)",
        )
    } else {
        (
            Severity::Impossible,
            "vfio-pci can bind, but the machine gets a dead device: \"can't reserve BAR\" in the kernel log",
        )
    };
    let finding = case.finding("boot-framebuffer", severity, read, meaning);
    Finding { remedy: Some(without_framebuffer(platform, framebuffers)), ..finding }
}

/// The kernel option that makes the kernel ignore the firmware framebuffer. `sysfb_init` creates the device that all
/// drivers of firmware framebuffers bind to: in arch/x86/kernel/sysfb.c since Linux 3.12, in drivers/firmware/sysfb.c
/// since 5.15. `video=efifb:off` disables only efifb, not simpledrm, which newer kernels use instead; so it is for old
/// kernels.
fn without_framebuffer(platform: &Platform, framebuffers: &[&Framebuffer]) -> Remedy {
    let old = platform.kernel_version().is_some_and(|version| version < (5, 15));
    let efifb = framebuffers.iter().any(|framebuffer| framebuffer.name == "efifb");
    let option = if old && efifb { "video=efifb:off" } else { "initcall_blacklist=sysfb_init" };
    let set = platform
        .cmdline
        .as_deref()
        .is_some_and(|line| line.split_whitespace().any(|word| word == option));
    if set {
        return Remedy {
            words: format!(
                "{option} is on the kernel's command line, but has no effect: choose another GPU as the primary \
                 display in the firmware setup"
            ),
            ..Remedy::default()
        };
    }
    remedy::kernel_option(platform, option)
}
