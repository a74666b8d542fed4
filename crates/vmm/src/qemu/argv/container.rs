//! A machine whose root is a container image: the image's file system, the kernel's modules, the configuration disk of the init
//! in the guest, and the way to its agent. The writable layer is one of the machine's disks.

use std::path::Path;

use model::{ContainerBoot, MachineSpec};
use serde_json::json;

use super::{Environment, Line, NotUtf8, Ports, text};
use crate::process::VSOCK_DESCRIPTOR;

const ROOT: &str = "root0";
const MODULES: &str = "modules0";
const CONFIG: &str = "config0";
const VSOCK: &str = "vsock0";

/// The ids of these devices.
pub fn ids(spec: &MachineSpec) -> Vec<String> {
    let Some(container) = &spec.container else { return Vec::new() };
    let modules = container.modules.iter().map(|_| MODULES);
    let vsock = container.vsock.iter().map(|_| VSOCK);
    [ROOT].into_iter().chain(modules).chain([CONFIG]).chain(vsock).map(str::to_owned).collect()
}

/// Adds the disks and the socket.
pub fn container(
    line: &mut Line,
    ports: &mut Ports,
    spec: &MachineSpec,
    environment: &Environment<'_>,
) -> Result<(), NotUtf8> {
    let Some(container) = &spec.container else { return Ok(()) };
    let modules = container.modules.as_deref();
    let modules = modules.map(|path| (MODULES, ContainerBoot::MODULES, path, true));
    let root = (ROOT, ContainerBoot::ROOT, container.root.as_path(), true);
    let config = (CONFIG, ContainerBoot::CONFIG, environment.guest_config.as_path(), false);
    for (id, serial, path, read_only) in [Some(root), modules, Some(config)].into_iter().flatten() {
        disk(line, ports, id, serial, path, read_only)?;
    }
    if let Some(cid) = container.vsock {
        let bus = ports.port("vsock-port");
        ports.device(json!({
            "driver": "vhost-vsock-pci", "id": VSOCK, "bus": bus, "guest-cid": cid,
            "vhostfd": VSOCK_DESCRIPTOR.to_string(),
        }));
    }
    Ok(())
}

/// A disk that the init in the guest finds by its serial number.
fn disk(
    line: &mut Line,
    ports: &mut Ports,
    id: &str,
    serial: &str,
    path: &Path,
    read_only: bool,
) -> Result<(), NotUtf8> {
    line.option(
        "-blockdev",
        json!({
            "node-name": id,
            "driver": "raw",
            "read-only": read_only,
            "file": {"driver": "file", "filename": text(path)?, "read-only": read_only},
        }),
    );
    let bus = ports.port(&format!("{id}-port"));
    ports.device(json!({
        "driver": "virtio-blk-pci", "id": id, "drive": id, "bus": bus, "serial": serial,
    }));
    Ok(())
}
