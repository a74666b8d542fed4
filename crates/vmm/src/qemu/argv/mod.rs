//! QEMU's command line for a machine: a pure function, tested with golden files.
//!
//! Options are passed as JSON if possible, so that no comma or equals sign in a name can begin another option;
//! elsewhere commas are doubled, which is QEMU's way of quoting them.

mod agent;
mod container;
mod cpu;
mod disks;
mod display;
mod memory;
mod network;
mod roots;
mod tpm;
mod usb;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::{
    DeviceAccess, Firmware, GuestBus, GuestFunction, GuestSlot, GuestSource, MachineSpec, Rom,
};
use serde_json::{Value, json};

use super::binary::Accelerator;
use super::mmio_window::{AddressSpace, Room};
use crate::process::{FD, IOMMU_DESCRIPTOR, device_descriptor};

pub use agent::socket as agent_socket;
pub use disks::{disk_at_port, disk_backend, disk_files, disk_node, disk_set};
pub use network::{card_at_port, host_cards, netdev, netdev_at_port, netdev_id_at};
pub use tpm::backend as tpm_backend;
pub use usb::usb_files;

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
    /// The disk that configures the guest at its first boot, if the machine has a seed.
    pub seed: PathBuf,
    /// The configuration disk of the init in the guest, if its root is a container image.
    pub guest_config: PathBuf,
    /// The directory with the ROMs of devices.
    pub roms: PathBuf,
    /// The directory with the key and the certificate of the screen, if it is encrypted.
    pub screen: PathBuf,
    /// The code and the variables of the firmware, if it is not the BIOS.
    pub firmware: Option<(PathBuf, PathBuf)>,
    /// The address space for devices.
    pub space: AddressSpace,
}

/// A path that cannot be passed to QEMU.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path {} is not UTF-8, which QEMU's options require", .0.display())]
pub struct NotUtf8(PathBuf);

/// The ids of all devices that the machine must have after the start.
pub fn device_ids(spec: &MachineSpec) -> Vec<String> {
    let functions = spec.slots.iter().flat_map(|slot| {
        slot.functions.iter().map(|function| function_id(slot.port, function.function))
    });
    let disk = spec.disk.iter().map(|_| DISK.to_owned());
    let seed = spec.options.seed.iter().map(|_| SEED.to_owned());
    let disks = spec.disks.iter().enumerate().map(|(number, file)| disks::id_of(number, file));
    let cards = spec.options.cards.iter().enumerate();
    let cards = cards.map(|(number, card)| network::id_of(number, card));
    let video = spec.options.display.iter().map(|_| display::VIDEO.to_owned());
    let tpm = spec.options.tpm.then(|| tpm::TPM.to_owned());
    let agent = spec.options.agent.then(|| agent::PORT.to_owned());
    let own = disk.chain(disks).chain(seed).chain(video).chain(tpm).chain(agent);
    own.chain(container::ids(spec)).chain(cards).chain(functions).collect()
}

/// The command line without the program and the monitor.
pub fn arguments(
    spec: &MachineSpec,
    environment: &Environment<'_>,
) -> Result<Vec<String>, NotUtf8> {
    let mut line = Line::default();
    base(&mut line, spec, environment);
    firmware(&mut line, environment)?;
    line.option("-serial", format!("chardev:{CONSOLE}"));
    kernel(&mut line, spec)?;
    let mut ports = Ports::default();
    roots::roots(&mut ports, spec);
    if spec.kernel.is_none() && !(spec.disk.is_none() && spec.disks.is_empty()) {
        // The firmware boots only the machine's own disks, never from a passed-through network card or drive.
        line.option("-boot", "strict=on");
    }
    random(&mut line, &mut ports);
    disk(&mut line, &mut ports, spec, environment)?;
    disks::disks(&mut line, &mut ports, spec);
    container::container(&mut line, &mut ports, spec, environment)?;
    if spec.options.seed.is_some() {
        seed(&mut line, &mut ports, environment)?;
    }
    if let Some(display) = spec.options.display {
        display::display(&mut line, &mut ports, display, environment)?;
    }
    if spec.options.tpm {
        tpm::tpm(&mut ports);
    }
    for (number, card) in spec.options.cards.iter().enumerate() {
        network::card(&mut ports, number, card);
    }
    if spec.options.agent {
        agent::agent(&mut ports);
    }
    usb::usb(&mut ports, spec);
    // The last ports: their number changes nothing before them.
    device_ports(&mut ports, spec, environment);
    functions(&mut line, &mut ports, spec, environment)?;
    ports.finish(&mut line);
    Ok(line.0)
}

const DISK: &str = "disk0";
const SEED: &str = "seed";

/// The id of a function, such as `hd1f0`: the first function in the second port for devices.
pub fn function_id(port: u32, function: u8) -> String {
    format!("{}f{function}", port_id(port))
}

/// The id of a port for devices, and of its bus.
pub fn port_id(port: u32) -> String {
    format!("hd{port}")
}

/// How many ports for devices a machine has: those of its devices, and the spare ones.
fn device_port_count(spec: &MachineSpec) -> u32 {
    let taken = u32::try_from(spec.slots.len()).unwrap_or(u32::MAX);
    let ports = spec.slots.iter().map(|slot| slot.port).chain(spec.options.part_ports());
    let last = ports.map(|port| port.saturating_add(1)).max().unwrap_or(0);
    taken.saturating_add(spec.spare.count).max(last)
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
    let accelerator = environment.accelerator.as_str();
    let os = spec.options.cpu.os;
    line.option("-name", format!("guest={},debug-threads=on", doubled(&spec.name)));
    line.option("-uuid", spec.id);
    let secure = spec.options.firmware == Firmware::UefiSecure;
    // The variables are not protected against the guest's kernel without Secure Boot, so nothing needs SMM.
    let smm = if secure { "on" } else { "off" };
    let flash = match environment.firmware {
        Some(_) => format!(",smm={smm},pflash0={CODE},pflash1={VARIABLES}"),
        None => String::new(),
    };
    line.option(
        "-machine",
        format!(
            "q35,accel={accelerator},vmport=off,dump-guest-core=off{flash}{}{}",
            cpu::machine(os),
            memory::machine(spec)
        ),
    );
    if secure {
        // Only firmware in System Management Mode writes the variables.
        line.option("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
    cpu::processors(line, spec, environment.accelerator, environment.space.most_bits);
    cpu::clock(line, os);
    memory::memory(line, spec);
    if let Some(size) = environment.space.window {
        let megabytes = size.div_ceil(MIB);
        line.option("-global", format!("q35-pcihost.pci-hole64-size={megabytes}M"));
        if environment.firmware.is_some() {
            // The same for OVMF, which places the BARs.
            line.option("-fw_cfg", format!("name=opt/ovmf/X-PciMmio64Mb,string={megabytes}"));
        }
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

const CODE: &str = "firmware";
const VARIABLES: &str = "nvram";

/// The firmware's code, and the machine's own variables.
fn firmware(line: &mut Line, environment: &Environment<'_>) -> Result<(), NotUtf8> {
    let Some((code, variables)) = &environment.firmware else { return Ok(()) };
    for (name, path, read_only) in [(CODE, code, true), (VARIABLES, variables, false)] {
        line.option(
            "-blockdev",
            json!({
                "node-name": name,
                "driver": "raw",
                "read-only": read_only,
                "file": {"driver": "file", "filename": text(path)?, "read-only": read_only},
            }),
        );
    }
    Ok(())
}

const CONSOLE: &str = "console";

/// The arguments for the serial console, with [`FD`] for the descriptor of its socket. Its output is also appended to a
/// file, whether a client is connected or not; the file can be truncated while the guest writes (see
/// [`MachinePaths`](crate::process::MachinePaths)).
pub fn console_socket(file: &Path) -> Result<Vec<String>, NotUtf8> {
    let file = doubled(text(file)?);
    let socket = format!("socket,id={CONSOLE},fd={FD},server=on,wait=off");
    Ok(vec!["-chardev".into(), format!("{socket},logfile={file},logappend=on")])
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
    let bus = ports.port("disk-port");
    ports.device(json!({
        "driver": "virtio-blk-pci", "id": DISK, "drive": DISK, "bus": bus,
        "bootindex": disks::root_boot_index(spec),
    }));
    Ok(())
}

/// The disk that configures the guest at its first boot.
fn seed(line: &mut Line, ports: &mut Ports, environment: &Environment<'_>) -> Result<(), NotUtf8> {
    line.option(
        "-blockdev",
        json!({
            "node-name": SEED,
            "driver": "raw",
            "read-only": true,
            "file": {"driver": "file", "filename": text(&environment.seed)?, "read-only": true},
        }),
    );
    let bus = ports.port("seed-port");
    ports.device(json!({
        "driver": "virtio-blk-pci", "id": SEED, "drive": SEED, "bus": bus, "serial": SEED,
    }));
    Ok(())
}

/// The ports for devices. Each is reserved the address space of its device, so that the device can come back when it has
/// left, or that of the largest one that may come.
fn device_ports(ports: &mut Ports, spec: &MachineSpec, environment: &Environment<'_>) {
    let mut spare = 0;
    for number in 0..device_port_count(spec) {
        let room = match spec.slots.iter().find(|slot| slot.port == number) {
            Some(slot) => Room::of(environment.root, slot),
            None => {
                spare += 1;
                environment.space.spare_port(spare - 1)
            }
        };
        ports.device_port(&port_id(number), room);
    }
    let chosen = spec.slots.iter().filter_map(|slot| Some((slot.bus?, port_id(slot.port))));
    ports.chosen.extend(chosen);
}

/// The functions of all devices.
fn functions(
    line: &mut Line,
    ports: &mut Ports,
    spec: &MachineSpec,
    environment: &Environment<'_>,
) -> Result<(), NotUtf8> {
    let has_descriptors = spec.access == DeviceAccess::Descriptors && !spec.slots.is_empty();
    if has_descriptors {
        line.option("-object", iommufd(&IOMMU_DESCRIPTOR.to_string()));
    }
    let all = spec.slots.iter().flat_map(|slot| slot.functions.iter().map(move |one| (slot, one)));
    for (place, (slot, function)) in all.enumerate() {
        let fd = has_descriptors.then(|| device_descriptor(place).to_string());
        let (roms, files) = (&spec.options.roms, &environment.roms);
        ports.device(function_device(
            slot,
            function,
            fd.as_deref(),
            roms,
            environment.root,
            files,
        )?);
    }
    Ok(())
}

/// The id of iommufd's object. QEMU looks it up by the end of its path, and devices have a child `iommufd`.
pub const IOMMUFD: &str = "iommufd0";

/// The object through which all devices are mapped, with the number or name of a descriptor.
pub fn iommufd(fd: &str) -> Value {
    json!({"qom-type": "iommufd", "id": IOMMUFD, "fd": fd})
}

/// One function of an assembly, which is together in one slot behind a port. `fd` is the number or name of its descriptor, if
/// QEMU does not open it itself.
pub fn function_device(
    slot: &GuestSlot,
    function: &GuestFunction,
    fd: Option<&str>,
    roms: &[Rom],
    root: &Path,
    rom_files: &Path,
) -> Result<Value, NotUtf8> {
    let mut device = json!({
        "driver": "vfio-pci",
        "id": function_id(slot.port, function.function),
        "bus": port_id(slot.port),
        "addr": format!("0.{:x}", function.function),
    });
    if function.function == 0 && slot.functions.len() > 1 {
        insert(&mut device, "multifunction", json!(true));
    }
    if let Some(fd) = fd {
        insert(&mut device, "iommufd", json!(IOMMUFD));
        insert(&mut device, "fd", json!(fd));
    }
    match function.source {
        // Beside a descriptor, the path is only for messages, and to tell what the device is (`vfio_device_get_name` and
        // `vfio_device_is_mdev` in hw/vfio/device.c).
        GuestSource::Function(address) if fd.is_some() => {
            let path = root.join("sys/bus/pci/devices").join(address.to_string());
            insert(&mut device, "sysfsdev", json!(text(&path)?));
        }
        // QEMU 7.2 does not accept a domain of more than four digits here; it accepts any path.
        GuestSource::Function(address) if address.domain() > 0xffff => {
            let path = root.join("sys/bus/pci/devices").join(address.to_string());
            insert(&mut device, "sysfsdev", json!(text(&path)?));
        }
        GuestSource::Function(address) => {
            insert(&mut device, "host", json!(address.to_string()));
        }
        GuestSource::Mdev(uuid) => {
            let path = root.join("sys/bus/mdev/devices").join(uuid.to_string());
            insert(&mut device, "sysfsdev", json!(text(&path)?));
        }
    }
    let rom = roms.iter().find(|rom| Some(rom.device) == function.source.function());
    if let Some(rom) = rom.filter(|rom| !rom.bar) {
        insert(&mut device, "rombar", json!(u8::from(rom.bar)));
    } else if let Some(rom) = rom.filter(|rom| rom.has_file) {
        insert(&mut device, "romfile", json!(text(&rom_files.join(rom.file_name()))?));
    }
    Ok(device)
}

fn insert(device: &mut Value, key: &str, value: Value) {
    if let Some(fields) = device.as_object_mut() {
        fields.insert(key.into(), value);
    }
}

/// The root ports and the devices behind them. Eight ports share one slot of a root complex; the first one has 30 free slots.
#[derive(Default)]
struct Ports {
    /// The root complexes besides the first, and the bus of each port that is behind one.
    roots: Vec<Value>,
    behind: BTreeMap<String, String>,
    /// The ports, with what is particular to each.
    ports: Vec<(String, Value)>,
    /// The ports that are to lead to a bus that was chosen.
    chosen: BTreeMap<GuestBus, String>,
    devices: Vec<Value>,
}

impl Ports {
    /// Adds a port for what the machine has for good, and returns the name of its bus. The guest cannot eject that.
    fn port(&mut self, name: &str) -> String {
        self.ports.push((name.into(), json!({"hotplug": false})));
        name.into()
    }

    /// Adds a port for a device that can come and leave.
    fn device_port(&mut self, name: &str, room: Room) {
        let mut more = json!({});
        for (key, size) in [("pref64-reserve", room.prefetchable), ("mem-reserve", room.memory)] {
            if size > 0 {
                insert(&mut more, key, json!(size));
            }
        }
        if room.io {
            insert(&mut more, "io-reserve", json!(4096));
        }
        self.ports.push((name.into(), more));
    }

    /// Whether a device of this id was added.
    fn has(&self, id: &str) -> bool {
        self.devices.iter().any(|device| device.get("id").is_some_and(|known| known == id))
    }

    fn device(&mut self, device: Value) {
        self.devices.push(device);
    }

    /// The bus that a port is on.
    fn bus_of(&self, port: &str) -> &str {
        self.behind.get(port).map_or(FIRST_ROOT, String::as_str)
    }

    /// Orders the ports of the first root complex so that the chosen ones lead to their buses: the firmware numbers the buses in
    /// the order of the ports, from 1 on. What is missing before a chosen one is filled up with ports that nothing can be plugged into.
    fn arrange(&mut self) {
        let Some(last) = self.chosen.keys().next_back().map(|bus| usize::from(bus.number())) else {
            return;
        };
        let all = std::mem::take(&mut self.ports);
        let (first, elsewhere): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(name, _)| self.bus_of(name) == FIRST_ROOT);
        let is_chosen = |name: &String| self.chosen.values().any(|chosen| chosen == name);
        let (chosen, others): (Vec<_>, Vec<_>) =
            first.into_iter().partition(|(name, _)| is_chosen(name));
        let mut others = others.into_iter();
        for bus in 1.. {
            let mut wanted = self.chosen.iter();
            let wanted = wanted.find(|(chosen, _)| usize::from(chosen.number()) == bus);
            let port = wanted.and_then(|(_, id)| chosen.iter().find(|(name, _)| name == id));
            match port.cloned().or_else(|| others.next()) {
                Some(port) => self.ports.push(port),
                None if bus < last => {
                    self.ports.push((format!("gap{bus}"), json!({"hotplug": false})));
                }
                None => break,
            }
        }
        self.ports.extend(elsewhere);
    }

    /// Adds everything to the command line: root complexes, ports, devices.
    fn finish(mut self, line: &mut Line) {
        self.arrange();
        for root in &self.roots {
            line.option("-device", root);
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, (name, more)) in self.ports.iter().enumerate() {
            let bus = self.bus_of(name);
            let place = counts.entry(bus).or_default();
            let (slot, function) = (usize::from(bus == FIRST_ROOT) + *place / 8, *place % 8);
            *place += 1;
            let mut port = json!({
                "driver": "pcie-root-port",
                "id": name,
                "bus": bus,
                "addr": format!("{slot:x}.{function:x}"),
                "chassis": number + 1,
                "port": number,
            });
            let mut later = self.ports.iter().skip(number + 1);
            if function == 0 && later.any(|(other, _)| self.bus_of(other) == bus) {
                insert(&mut port, "multifunction", json!(true));
            }
            for (key, value) in more.as_object().into_iter().flatten() {
                insert(&mut port, key, value.clone());
            }
            line.option("-device", port);
        }
        for device in self.devices {
            line.option("-device", device);
        }
    }
}

/// The bus of the first root complex.
const FIRST_ROOT: &str = "pcie.0";

/// Doubles commas: QEMU's way of quoting them in options.
fn doubled(value: &str) -> String {
    value.replace(',', ",,")
}

fn text(path: &Path) -> Result<&str, NotUtf8> {
    path.to_str().ok_or_else(|| NotUtf8(path.into()))
}

#[cfg(test)]
mod tests;
