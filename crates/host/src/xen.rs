//! The Xen hypervisor.

use crate::root::Root;

/// Whether this is the first domain (dom0): `control_d` in xenfs, or the all-zero id that Xen gives it
/// (Documentation/ABI/stable/sysfs-hypervisor-xen).
pub fn is_first_domain(root: &Root) -> bool {
    if let Ok(capabilities) = root.text("proc/xen/capabilities") {
        return capabilities.split_ascii_whitespace().any(|word| word == "control_d");
    }
    let xen = root.text("sys/hypervisor/type").is_ok_and(|text| text == "xen");
    let id = root.text("sys/hypervisor/uuid").unwrap_or_default();
    xen && !id.is_empty() && id.chars().all(|c| matches!(c, '0' | '-'))
}
