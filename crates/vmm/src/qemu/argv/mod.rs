//! QEMU's command line for a machine: a pure function, tested with golden files.
//!
//! Options are passed as JSON if possible, so that no comma or equals sign in a name can begin another option;
//! elsewhere commas are doubled, which is QEMU's way of quoting them.

use std::path::{Path, PathBuf};

use model::{GuestSlot, GuestSource, MachineSpec};
use serde_json::{Value, json};

use super::binary::Accelerator;

const MIB: u64 = 1 << 20;

/// What the command line depends on besides the machine itself.
#[derive(Clone, Debug)]
pub struct Environment<'a> {
    /// The root of sysfs.
    pub root: &'a Path,
    /// The accelerator.
    pub accelerator: Accelerator,
    /// The machine's disk layer.
    pub disk: PathBuf,
    /// The file for the serial console.
    pub console: PathBuf,
    /// The size of the guest's 64-bit MMIO window in bytes, if the default is too small.
    pub mmio_window: Option<u64>,
}

/// A path that cannot be passed to QEMU.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path {} is not UTF-8, which QEMU's options require", .0.display())]
pub struct NotUtf8(PathBuf);

/// The ids of all devices that the machine must have after the start.
pub fn device_ids(spec: &MachineSpec) -> Vec<String> {
    let functions = spec.slots.iter().enumerate().flat_map(|(slot, functions)| {
        functions.functions.iter().map(move |function| function_id(slot, function.function))
    });
    spec.disk.iter().map(|_| DISK.to_owned()).chain(functions).collect()
}

/// The command line without the program and the monitor.
pub fn arguments(
    spec: &MachineSpec,
    environment: &Environment<'_>,
) -> Result<Vec<String>, NotUtf8> {
    let mut line = Line::default();
    base(&mut line, spec, environment);
    console(&mut line, environment)?;
    kernel(&mut line, spec)?;
    let mut ports = Ports::default();
    random(&mut line, &mut ports);
    disk(&mut line, &mut ports, spec, environment)?;
    for (number, slot) in spec.slots.iter().enumerate() {
        devices(&mut ports, number, slot, environment)?;
    }
    ports.finish(&mut line);
    Ok(line.0)
}

const DISK: &str = "disk0";

/// The id of a function, such as `hd1f0`: the first function of the second passed-through slot.
fn function_id(slot: usize, function: u8) -> String {
    format!("hd{slot}f{function}")
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: impl ToString) {
        self.0.extend([name.into(), value.to_string()]);
    }
}

/// The machine without its devices, paused.
fn base(line: &mut Line, spec: &MachineSpec, environment: &Environment<'_>) {
    let (accelerator, cpu) = match environment.accelerator {
        Accelerator::Kvm { .. } => ("kvm", "host"),
        Accelerator::Tcg => ("tcg", "max"),
    };
    line.option("-name", format!("guest={},debug-threads=on", doubled(&spec.name)));
    line.option("-uuid", spec.id);
    line.option("-machine", format!("q35,accel={accelerator},vmport=off,dump-guest-core=off"));
    line.option("-cpu", cpu);
    line.option("-smp", spec.vcpus);
    line.option("-m", format!("size={}M", spec.memory.div_ceil(MIB)));
    if let Some(size) = environment.mmio_window {
        line.option("-global", format!("q35-pcihost.pci-hole64-size={}M", size.div_ceil(MIB)));
    }
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.option("-display", "none");
    line.option(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    line.flag("-S");
}

/// The serial console, appended to a file, so that the file can be truncated while the guest writes (see
/// [`MachinePaths`](crate::process::MachinePaths)).
fn console(line: &mut Line, environment: &Environment<'_>) -> Result<(), NotUtf8> {
    let path = doubled(text(&environment.console)?);
    line.option("-chardev", format!("file,id=console,path={path},append=on"));
    line.option("-serial", "chardev:console");
    Ok(())
}

fn kernel(line: &mut Line, spec: &MachineSpec) -> Result<(), NotUtf8> {
    let Some(boot) = &spec.kernel else { return Ok(()) };
    line.option("-kernel", text(&boot.kernel)?);
    if let Some(initrd) = &boot.initrd {
        line.option("-initrd", text(initrd)?);
    }
    if !boot.cmdline.is_empty() {
        line.option("-append", &boot.cmdline);
    }
    Ok(())
}

/// Entropy for the guest, from QEMU's own generator, which needs no file.
fn random(line: &mut Line, ports: &mut Ports) {
    line.option("-object", json!({"qom-type": "rng-builtin", "id": "rng"}));
    let bus = ports.port("rng-port");
    ports.device(json!({"driver": "virtio-rng-pci", "id": "rng0", "rng": "rng", "bus": bus}));
}

/// The machine's layer over the image. All formats and files are explicit, so that QEMU probes nothing and opens no
/// file that a header names.
fn disk(
    line: &mut Line,
    ports: &mut Ports,
    spec: &MachineSpec,
    environment: &Environment<'_>,
) -> Result<(), NotUtf8> {
    let Some(disk) = &spec.disk else { return Ok(()) };
    line.option(
        "-blockdev",
        json!({
            "node-name": DISK,
            "driver": "qcow2",
            "discard": "unmap",
            "file": {"driver": "file", "filename": text(&environment.disk)?},
            "backing": {
                "driver": disk.format.as_str(),
                "read-only": true,
                "file": {"driver": "file", "filename": text(&disk.base)?, "read-only": true},
            },
        }),
    );
    if spec.kernel.is_none() {
        // The firmware boots only this disk, never from a passed-through network card or drive.
        line.option("-boot", "strict=on");
    }
    let bus = ports.port("disk-port");
    ports.device(json!({
        "driver": "virtio-blk-pci", "id": DISK, "drive": DISK, "bus": bus, "bootindex": 1,
    }));
    Ok(())
}

/// The functions of one assembly, together in one slot behind their own root port.
fn devices(
    ports: &mut Ports,
    number: usize,
    slot: &GuestSlot,
    environment: &Environment<'_>,
) -> Result<(), NotUtf8> {
    let bus = ports.port(&format!("hd{number}"));
    let several = slot.functions.len() > 1;
    for function in &slot.functions {
        let mut device = json!({
            "driver": "vfio-pci",
            "id": function_id(number, function.function),
            "bus": bus,
            "addr": format!("0.{:x}", function.function),
        });
        if function.function == 0 && several {
            insert(&mut device, "multifunction", json!(true));
        }
        match function.source {
            // QEMU 7.2 does not accept a domain of more than four digits here; it accepts any path.
            GuestSource::Function(address) if address.domain() > 0xffff => {
                let path = environment.root.join("sys/bus/pci/devices").join(address.to_string());
                insert(&mut device, "sysfsdev", json!(text(&path)?));
            }
            GuestSource::Function(address) => {
                insert(&mut device, "host", json!(address.to_string()));
            }
            GuestSource::Mdev(uuid) => {
                let path = environment.root.join("sys/bus/mdev/devices").join(uuid.to_string());
                insert(&mut device, "sysfsdev", json!(text(&path)?));
            }
        }
        ports.device(device);
    }
    Ok(())
}

fn insert(device: &mut Value, key: &str, value: Value) {
    if let Some(fields) = device.as_object_mut() {
        fields.insert(key.into(), value);
    }
}

/// The root ports and the devices behind them. Eight ports share one slot of the root complex, which has 30 free slots.
#[derive(Default)]
struct Ports {
    names: Vec<String>,
    devices: Vec<Value>,
}

impl Ports {
    /// Adds a port, and returns the name of its bus.
    fn port(&mut self, name: &str) -> String {
        self.names.push(name.into());
        name.into()
    }

    fn device(&mut self, device: Value) {
        self.devices.push(device);
    }

    /// Adds everything to the command line, the ports first.
    fn finish(self, line: &mut Line) {
        let count = self.names.len();
        for (number, name) in self.names.into_iter().enumerate() {
            let (slot, function) = (1 + number / 8, number % 8);
            let mut port = json!({
                "driver": "pcie-root-port",
                "id": name,
                "bus": "pcie.0",
                "addr": format!("{slot:x}.{function:x}"),
                "chassis": number + 1,
                "port": number,
            });
            if function == 0 && number + 1 < count {
                insert(&mut port, "multifunction", json!(true));
            }
            line.option("-device", port);
        }
        for device in self.devices {
            line.option("-device", device);
        }
    }
}

/// Doubles commas: QEMU's way of quoting them in options.
fn doubled(value: &str) -> String {
    value.replace(',', ",,")
}

fn text(path: &Path) -> Result<&str, NotUtf8> {
    path.to_str().ok_or_else(|| NotUtf8(path.into()))
}

#[cfg(test)]
mod tests;
