//! Who may open VFIO's device nodes.

use super::super::{Finding, Patient, Platform, Remedy};
use super::{good, warning};

/// The container's node grants nothing without a group's node: the kernel creates it with this mode (`vfio_dev` in
/// drivers/vfio/container.c).
const CONTAINER: &str = "/dev/vfio/vfio";

pub fn vfio(patient: Patient<'_>) -> Vec<Finding> {
    let Platform { nodes, modules, .. } = patient.platform;
    let groups =
        || nodes.iter().filter(|(path, _)| path.starts_with("/dev/vfio/") && *path != CONTAINER);
    let open: Vec<(&str, u32)> = groups()
        .filter(|(_, facts)| facts.mode & 0o006 != 0)
        .map(|(path, facts)| (path.as_str(), facts.mode))
        .collect();
    if !open.is_empty() {
        return open.into_iter().map(|(path, mode)| open_to_all(path, mode)).collect();
    }
    let type1 = modules.get("vfio_iommu_type1").is_some_and(|module| module.loaded);
    if type1 && !nodes.is_empty() && !nodes.contains_key(CONTAINER) {
        let read = format!("vfio_iommu_type1 is loaded, but there is no {CONTAINER}");
        let meaning = "machines cannot use vfio: neither devtmpfs nor udev manages /dev";
        let remedy = Remedy::words("mount devtmpfs at /dev, or start systemd-udevd");
        return vec![warning(read, meaning).with_remedy(remedy)];
    }
    if nodes.keys().all(|path| !path.starts_with("/dev/vfio/")) {
        return Vec::new();
    }
    let read = match groups().count() {
        0 => "/dev/vfio has no group node yet".to_owned(),
        1 => "/dev/vfio has one group node, not open to all users".to_owned(),
        count => format!("/dev/vfio has {count} group nodes, none open to all users"),
    };
    vec![good(read, "only the owner and group of a node can use its devices")]
}

fn open_to_all(path: &str, mode: u32) -> Finding {
    let meaning = "every user of this host can use the devices of the group, and read their memory";
    let close = format!("[ ! -e {path} ] || chmod o= {path}");
    let words =
        "close it now, and remove the udev rule that opens it (grep -r vfio /etc/udev/rules.d)";
    warning(format!("{path} has mode {mode:o}"), meaning).with_remedy(Remedy::now(words, &[&close]))
}
