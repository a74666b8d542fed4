//! Memory for machines: huge pages and the limit of locked memory.

use super::super::remedy::memlock_for_group;
use super::super::{Finding, Patient, Platform, Remedy};
use super::{good, note};
use crate::format_size;

pub fn huge_pages(patient: Patient<'_>) -> Vec<Finding> {
    let pages = &patient.platform.huge_pages;
    if pages.is_empty() {
        return Vec::new();
    }
    let reserved: Vec<String> = pages
        .iter()
        .filter(|pages| pages.total > 0)
        .map(|pages| {
            format!("{} of {} ({} free)", pages.total, format_size(pages.size), pages.free)
        })
        .collect();
    if !reserved.is_empty() {
        let read = format!("/sys/kernel/mm/hugepages has {}", reserved.join(", "));
        return vec![good(
            read,
            "machines with huge pages start faster: fewer pages to pin and map",
        )];
    }
    let meaning = "all memory of a machine with a device is pinned page by page at start; large machines start slowly";
    let remedy = "reserve them for large machines: `sysctl vm.nr_hugepages=N`, where N is the machines' memory in units of \
                  2 MB, or hugepagesz=1G hugepages=N on the kernel's command line";
    vec![
        note("/sys/kernel/mm/hugepages has none reserved", meaning)
            .with_remedy(Remedy::words(remedy)),
    ]
}

pub fn locked(patient: Patient<'_>) -> Vec<Finding> {
    let Platform { memlock_limit: Some(limit), memory, .. } = patient.platform else {
        return Vec::new();
    };
    if *limit == u64::MAX {
        return vec![good(
            "/proc/self/limits: locked memory is unlimited",
            "machines can also be started by hand",
        )];
    }
    let read = format!("/proc/self/limits: {} of memory may be locked", format_size(*limit));
    if limit >= memory {
        return vec![good(read, "a machine's memory can be locked for its devices")];
    }
    let meaning = "Handover and libvirt raise the limit for their machines; QEMU started by hand from this session, or by \
                   rootless podman, fails with \"Cannot allocate memory\"";
    vec![note(read, meaning).with_remedy(memlock_for_group(patient.platform, "kvm"))]
}
