//! Whether a device in a machine can forge interrupts of the host.

use super::super::remedy::{other_kernel_option, without_kernel_option, without_module_option};
use super::super::{Finding, Patient, Platform, Remedy};
use super::{good, impossible, iommu, warning};

/// Options without a value that disable remapping.
const OFF: [&str; 2] = ["nointremap", "noapic"];

/// The option that disables remapping, and what stays of it. `intremap=` is a list (`setup_irqremap` in
/// drivers/iommu/irq_remapping.c).
fn off(platform: &Platform) -> Option<(&str, Option<String>)> {
    let is_off = |word: &str| word.starts_with("off");
    let listed = platform.listed("intremap").find(|one| is_off(one.word));
    let alone = platform.cmdline_words().find(|word| OFF.contains(word));
    listed.map(|one| (one.option, one.without(is_off))).or_else(|| alone.map(|word| (word, None)))
}

pub fn remapping(patient: Patient<'_>) -> Vec<Finding> {
    let platform = patient.platform;
    let Some(remapped) = platform.interrupt_remapping.filter(|_| iommu::is_on(patient)) else {
        return Vec::new();
    };
    if remapped {
        let meaning = "a device can raise only its own interrupts";
        return vec![good("/proc/interrupts has chips named IR-", meaning)];
    }
    let off = off(platform);
    let read = match &off {
        Some((option, _)) => {
            format!("/proc/interrupts has no chip named IR-; /proc/cmdline has {option}")
        }
        None => "/proc/interrupts has no chip named IR-".to_owned(),
    };
    let remedy = match off {
        Some((option, Some(rest))) => other_kernel_option(platform, option, &rest),
        Some((option, None)) => without_kernel_option(platform, option),
        None if platform.virtual_machine => {
            let iommu = if platform.firmware.ivrs { "amd-iommu" } else { "intel-iommu" };
            Remedy::words(format!(
                "give this machine an IOMMU that remaps interrupts (QEMU: -device {iommu},intremap=on and \
                 kernel-irqchip=split)"
            ))
        }
        None => Remedy::words(
            "enable x2APIC or interrupt remapping, next to VT-d or AMD-Vi, in the firmware setup; see `dmesg | grep -i \
             remapping`",
        ),
    };
    // The kernel refuses such devices: vfio_iommu_type1_attach_group ("No interrupt remapping support") for groups,
    // iommufd_device_bind for single devices. Each checks its own module's parameter.
    let allowed = |flag| flag == Some(true);
    if allowed(platform.unsafe_interrupts) || allowed(platform.iommufd_unsafe_interrupts) {
        let meaning = "a machine with a device can send any interrupt to the host";
        return vec![warning(read, meaning).with_remedy(remedy)];
    }
    let meaning = "a device could raise any interrupt on the host, so vfio refuses to hand it over";
    vec![impossible(read, meaning).with_remedy(remedy)]
}

pub fn allowed_unsafe(patient: Patient<'_>) -> Vec<Finding> {
    let platform = patient.platform;
    let modules = [
        ("vfio_iommu_type1", platform.unsafe_interrupts),
        ("iommufd", platform.iommufd_unsafe_interrupts),
    ];
    let judged = |(module, flag): (&str, Option<bool>)| Some(judge(platform, module, flag?));
    modules.into_iter().filter_map(judged).collect()
}

fn judge(platform: &Platform, module: &str, allowed: bool) -> Finding {
    let parameter = format!("/sys/module/{module}/parameters/allow_unsafe_interrupts");
    if !allowed {
        let meaning = "vfio accepts devices only if interrupts are remapped";
        return good(format!("{parameter} is N"), meaning);
    }
    let meaning = "vfio accepts devices even if interrupts are not remapped: a machine could then send any interrupt \
                   to the host";
    let now = format!("echo N > {parameter}");
    let remedy = Remedy::now("disable it now", &[&now]).and(without_module_option(
        platform,
        module,
        "allow_unsafe_interrupts",
    ));
    warning(format!("{parameter} is Y"), meaning).with_remedy(remedy)
}
