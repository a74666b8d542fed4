//! Checks that the nodes that a pod mounts exist, and that its launcher may open them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use model::{Code, Refusal};
use rustix::process::{Resource, geteuid, getrlimit};

use super::machine::Machine;

/// The nodes that every machine mounts, and the modules that create them.
const ALWAYS: [(&str, &str); 3] = [
    ("/dev/kvm", "kvm_intel or kvm_amd"),
    ("/dev/net/tun", "tun"),
    ("/dev/vhost-net", "vhost_net"),
];

/// The user id of the launcher, which is the same on the host for root's podman.
const LAUNCHER: u32 = 107;

/// How virt-launcher opens nodes.
#[derive(Clone, Copy, Debug)]
pub struct Launcher {
    /// The user id that the devices are claimed for, if they are.
    pub claimed_for: Option<u32>,
    /// Whether devices are assigned through VFIO.
    pub vfio: bool,
}

/// The nodes of this host that do not exist or that the launcher may not open. What fails only on some hosts goes to
/// `warn`.
pub fn unusable_nodes(machines: &[Machine], launcher: Launcher, warn: fn(&str)) -> Vec<Refusal> {
    let mut missing = Vec::new();
    let own = machines.iter().flat_map(|machine| &machine.devices.nodes);
    let mut paths: Vec<(&str, Option<&str>)> =
        ALWAYS.iter().map(|(path, module)| (*path, Some(*module))).collect();
    for node in own {
        if !paths.iter().any(|(path, _)| *path == node.path) {
            paths.push((&node.path, None));
        }
    }
    for (path, module) in paths {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.file_type().is_char_device() => {
                missing.extend(denied(path, &metadata, launcher, warn));
            }
            _ => missing.push(absent(path, module)),
        }
    }
    if launcher.vfio || machines.iter().any(|machine| machine.devices.lock_memory) {
        missing.extend(locked_memory());
    }
    missing
}

fn absent(path: &str, module: Option<&str>) -> Refusal {
    let remedy = match (module, path.strip_prefix("/dev/nvidia")) {
        (Some(module), _) => {
            format!(
                "run `modprobe {module}`; for a pod of another host use --host none, or its recording"
            )
        }
        (None, Some("-uvm" | "-uvm-tools")) => {
            "modprobe nvidia-uvm && nvidia-modprobe -u -c=0".to_owned()
        }
        (None, Some("-modeset")) => "modprobe nvidia-modeset && nvidia-modprobe -m".to_owned(),
        (None, Some(_)) => {
            "run nvidia-modprobe or nvidia-smi once: it creates NVIDIA's nodes".to_owned()
        }
        (None, None) => "run `handover doctor` to find what creates it".to_owned(),
    };
    Refusal::new(Code::DeviceNotFound, format!("no device node {path} on this host"), remedy)
}

/// Whether the launcher may not open a node: certain in a rootless podman, where its user does not exist on the host.
fn denied(
    path: &str,
    metadata: &std::fs::Metadata,
    launcher: Launcher,
    warn: fn(&str),
) -> Option<Refusal> {
    const READ_WRITE: u32 = 0o6;
    let root = geteuid().is_root();
    let allows = |shift: u32| (metadata.mode() >> shift) & READ_WRITE == READ_WRITE;
    let user = launcher.claimed_for.unwrap_or(LAUNCHER);
    let owner = root || launcher.claimed_for.is_some();
    let allowed = allows(0)
        || (owner && metadata.uid() == user && allows(6))
        || (root && metadata.gid() == LAUNCHER && allows(3));
    if allowed {
        return None;
    }
    let mode = metadata.mode() & 0o777;
    let (uid, gid) = (metadata.uid(), metadata.gid());
    let why = format!("{path} has mode {mode:04o}, user {uid} and group {gid}");
    if root {
        warn(&format!(
            "{why}: virt-launcher runs as user {LAUNCHER} and may not open it; chmod 666 {path}"
        ));
        return None;
    }
    Some(Refusal::new(
        Code::Forbidden,
        format!(
            "{why}: the launcher in a rootless podman has another user and group, and may not open it"
        ),
        format!("run `sudo chmod 666 {path}`, or play the pod as root: `sudo podman kube play`"),
    ))
}

/// VFIO locks all of the guest's memory, and rootless podman cannot raise the limit.
fn locked_memory() -> Option<Refusal> {
    if geteuid().is_root() {
        return None;
    }
    let limit = getrlimit(Resource::Memlock).maximum?;
    Some(Refusal::new(
        Code::Forbidden,
        format!(
            "VFIO locks all of the guest's memory, but this user may lock only {}",
            model::shown::bytes(limit)
        ),
        "play the pod as root, or raise the limit: add a `memlock unlimited` line to /etc/security/limits.conf and log in again",
    ))
}
