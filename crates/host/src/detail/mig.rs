//! The instances of an NVIDIA GPU in MIG mode, and the nodes that a process must open to use them.
//!
//! NVIDIA's driver has a directory for each instance, with a file that has the number of its node (NVIDIA's MIG user
//! guide, "Device Nodes and Capabilities"). Reading these files in procfs does not wake the GPU.

use model::{Address, MigInstance};

use crate::nodes::nvidia_minor;
use crate::root::Root;

/// Below it are `gpuN/mig/giG/ciC`, where N is the number of the GPU's own node.
const CAPABILITIES: &str = "proc/driver/nvidia/capabilities";

/// The instances of a GPU, each GPU instance before its compute instances; empty if it is not in MIG mode.
pub fn instances(root: &Root, address: Address) -> Vec<MigInstance> {
    let Some(minor) = nvidia_minor(root, address) else { return Vec::new() };
    let folder = format!("{CAPABILITIES}/gpu{minor}/mig");
    let mut all = Vec::new();
    for gpu_instance in numbers(root, &folder, "gi") {
        let folder = format!("{folder}/gi{gpu_instance}");
        let mut add = |compute_instance, folder: &str| {
            let capability = capability(root, folder);
            let instance = |capability| MigInstance { gpu_instance, compute_instance, capability };
            all.extend(capability.map(instance));
        };
        add(None, &folder);
        for compute_instance in numbers(root, &folder, "ci") {
            add(Some(compute_instance), &format!("{folder}/ci{compute_instance}"));
        }
    }
    all
}

/// The numbers N of the names `PREFIXN` in a directory, in order; empty if there is no such directory.
fn numbers(root: &Root, folder: &str, prefix: &str) -> Vec<u32> {
    let names = root.names(folder).unwrap_or_default();
    let number = |name: String| name.strip_prefix(prefix)?.parse().ok();
    let mut numbers: Vec<u32> = names.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn capability(root: &Root, folder: &str) -> Option<u32> {
    let text = root.text(&format!("{folder}/access")).ok()?;
    let minor = text.lines().find_map(|line| line.strip_prefix("DeviceFileMinor:"))?;
    minor.trim().parse().ok()
}
