//! Devices of a running machine: plugging them, asking the guest to let go of them, and what is there.
//!
//! QEMU's ports behind a q35 are hot-pluggable by ACPI (since 6.2, hw/acpi/pcihp.c): a guest that has not started yet finds
//! the device when it does, and one that ignores a request to eject still gets it after a reset, which ejects. No event tells
//! of functions that leave in this way, so what QEMU has is asked for, again and again.
//!
//! A function is found by the path of its host device, whatever its id is: machines of earlier versions are found too.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use model::{
    Address, DeviceAccess, GuestBus, GuestFunction, GuestSlot, GuestSource, LaunchError, Plug,
    PluggedFunction, Unplugged,
};
use rustix::fd::OwnedFd;
use serde_json::{Value, json};

use super::argv::{IOMMUFD, function_device, iommufd, port_id};
use super::mmio_window::Room;
use super::qmp::Monitor;
use crate::process::{
    Control, ControlError, DeviceFile, MachinePaths, iommu, open_device, own_node, printable,
    without,
};

/// Where QEMU has all devices with an id.
const DEVICES: &str = "/machine/peripheral";

/// How long one connection to the monitor is kept while the guest is waited for: others need it too.
const SLICE: Duration = Duration::from_millis(400);
/// How often QEMU is asked meanwhile.
const BETWEEN: Duration = Duration::from_millis(25);
/// When the guest is asked again. QEMU accepts a second request after 5 s (`pending_deleted_expires_ms` in
/// hw/acpi/pcihp.c and hw/pci/pcie.c).
const AGAIN: Duration = Duration::from_millis(5500);
/// How long QEMU may take for its last answer when the guest's time is over.
pub const LAST_ANSWER: Duration = Duration::from_secs(5);

/// The deepest bus whose devices are listed, so that no answer is followed without end.
const DEEPEST: u32 = 8;

/// Plugs all functions of a slot: the guest scans it when function 0 comes, so that is the last one.
pub fn plug(
    plug: &Plug,
    paths: &MachinePaths,
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<(), ControlError> {
    let mut functions: Vec<_> = plug.slot.functions.iter().collect();
    functions.sort_by_key(|function| std::cmp::Reverse(function.function));
    let has_descriptors = plug.access == DeviceAccess::Descriptors;
    if has_descriptors {
        expect_iommufd(&paths.root, monitor, deadline)?;
    }
    for function in functions {
        let fd = has_descriptors.then_some(DEVICE_NAME);
        let device =
            function_device(&plug.slot, function, fd, &plug.roms, &paths.root, &paths.roms)
                .map_err(|error| ControlError::Refused("device_add".into(), error.to_string()))?;
        if has_descriptors {
            pass_device(&paths.root, function, monitor, deadline)?;
        }
        let added = monitor.execute("device_add", device, deadline);
        if has_descriptors && added.is_err() {
            forget_descriptors(monitor, deadline)?;
        }
        added?;
    }
    Ok(())
}

/// The names of descriptors that are on their way to a device or an object.
const DEVICE_NAME: &str = "handover-device";
const IOMMU_NAME: &str = "handover-iommu";

/// Whether QEMU takes devices as descriptors.
pub fn takes_descriptors(monitor: &mut Monitor, deadline: Instant) -> Result<bool, ControlError> {
    let of = json!({"typename": "vfio-pci"});
    let listed = monitor.execute("device-list-properties", of, deadline)?;
    let names = || listed.as_array().into_iter().flatten().filter_map(|one| one.get("name"));
    Ok(["fd", "iommufd"].iter().all(|name| names().any(|one| one == name)))
}

/// Makes iommufd's object, if the machine has none: it was started without a device.
fn expect_iommufd(
    root: &Path,
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<(), ControlError> {
    let objects = monitor.execute("qom-list", json!({"path": "/objects"}), deadline)?;
    let mut names = objects.as_array().into_iter().flatten().filter_map(|one| one.get("name"));
    if names.any(|name| name == IOMMUFD) {
        return Ok(());
    }
    let file = iommu(root).ok_or_else(|| gone("/dev/iommu does not exist".into()))?;
    monitor.pass(&opened(&file)?, IOMMU_NAME, deadline)?;
    let added = monitor.execute("object-add", iommufd(IOMMU_NAME), deadline);
    if added.is_err() {
        forget_descriptors(monitor, deadline)?;
    }
    added.map(drop)
}

/// Passes a device's descriptor.
fn pass_device(
    root: &Path,
    function: &GuestFunction,
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<(), ControlError> {
    let file = own_node(root, function.source, 0);
    let file = file.ok_or_else(|| gone(without(function.source)))?;
    monitor.pass(&opened(&file)?, DEVICE_NAME, deadline)
}

fn opened(file: &DeviceFile) -> Result<OwnedFd, ControlError> {
    open_device(file).map_err(|error| gone(format!("cannot open {}: {error}", file.path.display())))
}

fn gone(reason: String) -> ControlError {
    ControlError::Refused("device_add".into(), reason)
}

/// Lets QEMU close descriptors that it got and has not used: while one is open, the kernel does not unbind the device. An earlier
/// daemon can have passed one, and died before it asked for the device.
fn forget_descriptors(monitor: &mut Monitor, deadline: Instant) -> Result<(), ControlError> {
    for name in [DEVICE_NAME, IOMMU_NAME] {
        match monitor.execute("closefd", json!({"fdname": name}), deadline) {
            // There is none.
            Ok(_) | Err(ControlError::Refused(..)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Asks the guest to let go of a slot's functions, and waits until QEMU has none of them.
pub fn unplug(
    slot: &GuestSlot,
    control: &Control<'_>,
    deadline: Instant,
) -> Result<Unplugged, ControlError> {
    let_go(|monitor, deadline| present(slot, monitor, deadline), control, deadline)
}

/// Asks the guest to let go of what `present` says that QEMU still has: ids and numbers of functions.
pub fn let_go(
    mut present: impl FnMut(&mut Monitor, Instant) -> Result<Vec<(String, u8)>, ControlError>,
    control: &Control<'_>,
    deadline: Instant,
) -> Result<Unplugged, ControlError> {
    let last = deadline + LAST_ANSWER;
    let mut request = Request::default();
    loop {
        let mut monitor = Monitor::begin(control.connect(last)?, last)?;
        if request.last.is_none() {
            forget_descriptors(&mut monitor, last)?;
        }
        let until = (Instant::now() + SLICE).min(deadline);
        loop {
            let there = present(&mut monitor, last)?;
            if there.is_empty() {
                return Ok(Unplugged::Out);
            }
            request.repeat(&there, &mut monitor, last)?;
            if request.is_hopeless || Instant::now() >= deadline {
                return Ok(Unplugged::Kept(request.why()));
            }
            if Instant::now() >= until {
                break;
            }
            if let Some(event) = monitor.event(Instant::now() + BETWEEN)? {
                request.hear(&event, &there);
            }
        }
        drop(monitor);
        std::thread::sleep(BETWEEN);
    }
}

/// A request to the guest to let go of a device.
#[derive(Default)]
struct Request {
    last: Option<Instant>,
    /// Why QEMU or the guest refused it last.
    refusal: Option<String>,
    /// Whether this machine can never do it.
    is_hopeless: bool,
}

impl Request {
    /// Asks, if it was not asked or long ago. Function 0 stands for its slot; without it, the guest sees none of the others.
    fn repeat(
        &mut self,
        there: &[(String, u8)],
        monitor: &mut Monitor,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        if self.last.is_some_and(|last| last.elapsed() < AGAIN) {
            return Ok(());
        }
        let first: Vec<&(String, u8)> =
            there.iter().filter(|(_, function)| *function == 0).collect();
        let all: Vec<&(String, u8)> = there.iter().collect();
        for (id, _) in if first.is_empty() { all } else { first } {
            match monitor.execute("device_del", json!({"id": id}), deadline) {
                Ok(_) => self.refusal = None,
                // An earlier daemon has asked, or the guest is busy with the slot: asked again later.
                Err(ControlError::Refused(_, reason)) => {
                    self.is_hopeless |= reason.contains("does not support hotplugging");
                    let was_asked = reason.contains("already in the process of unplug");
                    self.refusal = Some(reason).filter(|_| !was_asked);
                }
                Err(error) => return Err(error),
            }
        }
        self.last = Some(Instant::now());
        Ok(())
    }

    /// Notes that the guest refused.
    fn hear(&mut self, event: &Value, there: &[(String, u8)]) {
        let is_refusal = event.get("event").is_some_and(|name| name == "DEVICE_UNPLUG_GUEST_ERROR");
        let data = event.get("data");
        let field = |name: &str| data.and_then(|data| data.get(name)).and_then(Value::as_str);
        let is_ours = there.iter().any(|(id, _)| {
            field("device") == Some(id) || field("path") == Some(&format!("{DEVICES}/{id}"))
        });
        if is_refusal && is_ours {
            self.refusal = Some("the guest refused".into());
        }
    }

    fn why(&self) -> String {
        match &self.refusal {
            None => "the guest did not let go of it".into(),
            Some(reason) => printable(reason),
        }
    }
}

/// The ids and numbers of a slot's functions that QEMU has.
fn present(
    slot: &GuestSlot,
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<Vec<(String, u8)>, ControlError> {
    let there = functions(monitor, deadline)?;
    let number = |source| slot.functions.iter().find(|function| function.source == source);
    let own = there.into_iter().filter_map(|(id, source)| Some((id, number(source)?.function)));
    Ok(own.collect())
}

/// All functions of the host that QEMU has, by id.
fn functions(
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<Vec<(String, GuestSource)>, ControlError> {
    let mut all = Vec::new();
    for (id, kind) in devices(monitor, deadline)? {
        if !kind.starts_with("child<vfio-pci") {
            continue;
        }
        let of = json!({"path": format!("{DEVICES}/{id}"), "property": "sysfsdev"});
        match monitor.execute("qom-get", of, deadline) {
            Ok(path) => all.extend(path.as_str().and_then(source).map(|source| (id, source))),
            // It has left meanwhile.
            Err(ControlError::Refused(..)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The host device of this path in sysfs: a function, or a mediated device.
fn source(path: &str) -> Option<GuestSource> {
    let name = Path::new(path).file_name()?.to_str()?;
    let function = name.parse::<Address>().ok().map(GuestSource::Function);
    function.or_else(|| name.parse().ok().map(GuestSource::Mdev))
}

/// The ids and types of all devices that have an id.
pub fn devices(
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<Vec<(String, String)>, ControlError> {
    let listing = monitor.execute("qom-list", json!({"path": DEVICES}), deadline)?;
    let entry = |child: &Value| {
        let field = |name: &str| child.get(name).and_then(Value::as_str).map(str::to_owned);
        Some((field("name")?, field("type")?))
    };
    Ok(listing.as_array().into_iter().flatten().filter_map(entry).collect())
}

/// The functions of the host that QEMU has, with their addresses in the guest.
pub fn plugged(
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<Vec<PluggedFunction>, ControlError> {
    let functions = functions(monitor, deadline)?;
    if functions.is_empty() {
        return Ok(Vec::new());
    }
    let buses = monitor.execute("query-pci", json!({}), deadline)?;
    let mut places = BTreeMap::new();
    for bus in buses.as_array().into_iter().flatten() {
        note_places(bus, DEEPEST, &mut places);
    }
    let function = |(id, source)| PluggedFunction { source, guest: places.get(&id).copied() };
    Ok(functions.into_iter().map(function).collect())
}

/// Notes the addresses of the devices on a bus, and behind its bridges. A bus has the number 0 until the firmware gives it
/// one.
fn note_places(bus: &Value, depth: u32, places: &mut BTreeMap<String, Address>) {
    for device in bus.get("devices").and_then(Value::as_array).into_iter().flatten() {
        let number = |name: &str| device.get(name).and_then(Value::as_u64)?.try_into().ok();
        let id = device.get("qdev_id").and_then(Value::as_str).unwrap_or_default();
        let place = || Address::new(0, number("bus")?, number("slot")?, number("function")?);
        if let Some(place) = place().filter(|_| !id.is_empty()) {
            places.insert(id.to_owned(), place);
        }
        if let Some(bridge) = device.get("pci_bridge").filter(|_| depth > 0) {
            note_places(bridge, depth - 1, places);
        }
    }
}

/// The number of a port for devices, by its id.
pub fn port_of(id: &str) -> Option<u32> {
    id.strip_prefix("hd")?.parse().ok()
}

/// The first port that is free and has room.
pub fn free_port(
    room: Room,
    bus: Option<GuestBus>,
    taken: &[u32],
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<Result<u32, LaunchError>, ControlError> {
    let devices = devices(monitor, deadline)?;
    let mut ports: Vec<u32> = devices
        .iter()
        .filter(|(_, kind)| kind == "child<pcie-root-port>")
        .filter_map(|(id, _)| port_of(id))
        .filter(|port| !taken.contains(port))
        .collect();
    ports.retain(|port| {
        let function = format!("{}f", port_id(*port));
        !devices.iter().any(|(id, _)| id.starts_with(&function))
    });
    ports.sort_unstable();
    if let Some(bus) = bus {
        let listed = monitor.execute("query-pci", json!({}), deadline)?;
        let all = listed.as_array().into_iter().flatten();
        ports.retain(|port| all.clone().any(|first| leads_to(first, *port, bus)));
        if ports.is_empty() {
            return Ok(Err(LaunchError::NoPort {
                reason: format!("no free port of the machine leads to the bus of {bus}"),
                remedy: "leave `guest=` out, or stop the instance first: it has the bus at its next start".into(),
            }));
        }
    }
    let mut small = None;
    for port in ports {
        let there = Room {
            prefetchable: reserve(port, "pref64-reserve", monitor, deadline)?,
            memory: reserve(port, "mem-reserve", monitor, deadline)?,
            io: true,
        };
        if there.prefetchable >= room.prefetchable && there.memory >= room.memory {
            return Ok(Ok(port));
        }
        small.get_or_insert(there);
    }
    Ok(Err(no_port(room, small)))
}

/// The address space that was reserved for a port; as much as can be if nothing was said.
fn reserve(
    port: u32,
    property: &str,
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<u64, ControlError> {
    let of = json!({"path": format!("{DEVICES}/{}", port_id(port)), "property": property});
    let size = monitor.execute("qom-get", of, deadline)?;
    Ok(size.as_u64().unwrap_or(u64::MAX))
}

/// Whether a port leads to a bus, by what is on the first one.
fn leads_to(first: &Value, port: u32, bus: GuestBus) -> bool {
    let id = port_id(port);
    let mut devices = first.get("devices").and_then(Value::as_array).into_iter().flatten();
    devices.any(|device| {
        let number = device.pointer("/pci_bridge/bus/secondary").and_then(Value::as_u64);
        device.get("qdev_id").is_some_and(|own| *own == *id)
            && number == Some(u64::from(bus.number()))
    })
}

fn no_port(room: Room, small: Option<Room>) -> LaunchError {
    let shown = |room: Room| {
        let (wide, low) =
            (model::shown::bytes(room.prefetchable), model::shown::bytes(room.memory));
        format!("{wide} of prefetchable and {low} of other memory")
    };
    let (reason, remedy) = match small {
        None => (
            "the machine has no free port for a device".to_owned(),
            "stop the instance first; `--spare-ports` of a new instance says how many it has",
        ),
        Some(there) => (
            format!(
                "the device needs {}, and the machine's free ports have {}",
                shown(room),
                shown(there)
            ),
            "register the device (`handover device add`), stop the instance, attach it, and start it: ports have room for the \
             devices that were registered when the machine was started",
        ),
    };
    LaunchError::NoPort { reason, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    #[test]
    fn a_host_device_is_known_by_the_end_of_its_path() {
        let address = "0000:01:00.0".parse().unwrap();
        let at = |path: &str| source(path);
        assert_eq!(at("/sys/bus/pci/devices/0000:01:00.0"), Some(GuestSource::Function(address)));
        let vmd = "10000:e1:00.0".parse().unwrap();
        assert_eq!(at("/lab/sys/bus/pci/devices/10000:e1:00.0"), Some(GuestSource::Function(vmd)));
        let uuid = uuid::Uuid::from_u128(7);
        assert_eq!(at(&format!("/sys/bus/mdev/devices/{uuid}")), Some(GuestSource::Mdev(uuid)));
        assert_eq!((at(""), at("/"), at("/sys/..")), (None, None, None));
    }

    #[test]
    fn guest_addresses_are_found_behind_bridges_and_garbage_is_skipped() {
        let function = |id: &str, bus: u32, function: u32| json!({"qdev_id": id, "bus": bus, "slot": 0, "function": function});
        let port = json!({"qdev_id": "hd0", "bus": 0, "slot": 1, "function": 1, "pci_bridge": {
            "devices": [function("hd0f0", 4, 0), function("hd0f1", 4, 1), function("", 4, 2), {"qdev_id": "x", "bus": -1}]}});
        let mut places = BTreeMap::new();
        note_places(&json!({"bus": 0, "devices": [port, null, 7]}), DEEPEST, &mut places);
        let shown: Vec<String> = places.iter().map(|(id, at)| format!("{id} {at}")).collect();
        assert_eq!(shown, ["hd0 0000:00:01.1", "hd0f0 0000:04:00.0", "hd0f1 0000:04:00.1"]);
        let mut deep = json!({"devices": []});
        for _ in 0..100 {
            deep = json!({"devices": [{"pci_bridge": deep}]});
        }
        note_places(&deep, DEEPEST, &mut places);
    }

    /// A QEMU with a graphics card in its second port, which lets go of it when it was asked so often.
    fn qemu(lets_go_after: usize, busy: usize) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let mut asked = 0;
            while let Ok((stream, _)) = listener.accept() {
                let mut output = stream.try_clone().unwrap();
                drop(output.write_all(b"{\"QMP\": {}}\n"));
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let message: Value = serde_json::from_str(&line).unwrap();
                    let arguments = &message["arguments"];
                    let is_out = asked >= lets_go_after;
                    let answer = match message["execute"].as_str().unwrap() {
                        "qom-list" => json!({"return": listing(is_out)}),
                        "qom-get" => json!({"return": property(arguments)}),
                        "device_del" => {
                            assert_eq!(arguments["id"], "hd1f0", "function 0 stands for all");
                            asked += 1;
                            if asked <= busy {
                                json!({"error": {"desc": "guest is busy"}})
                            } else {
                                json!({"return": {}})
                            }
                        }
                        _ => json!({"return": {}}),
                    };
                    let mut answer = answer;
                    answer["id"] = message["id"].clone();
                    let event = json!({"event": "DEVICE_UNPLUG_GUEST_ERROR", "data": {"path": "/machine/peripheral/other"}});
                    drop(output.write_all(format!("{event}\n{answer}\n").as_bytes()));
                }
            }
        });
        (dir, path)
    }

    fn listing(is_out: bool) -> Value {
        let entry =
            |name: &str, kind: &str| json!({"name": name, "type": format!("child<{kind}>")});
        let mut all =
            vec![json!({"name": "type", "type": "string"}), entry("rng0", "virtio-rng-pci")];
        all.extend(["hd0", "hd1", "hd2"].map(|port| entry(port, "pcie-root-port")));
        all.push(entry("hd0f0", "vfio-pci"));
        if !is_out {
            all.extend(["hd1f0", "hd1f1"].map(|function| entry(function, "vfio-pci")));
        }
        all.into()
    }

    fn property(arguments: &Value) -> Value {
        match (arguments["path"].as_str().unwrap(), arguments["property"].as_str().unwrap()) {
            ("/machine/peripheral/hd0f0", "sysfsdev") => "/sys/bus/pci/devices/0000:03:00.0".into(),
            ("/machine/peripheral/hd1f0", "sysfsdev") => "/sys/bus/pci/devices/0000:01:00.0".into(),
            ("/machine/peripheral/hd1f1", "sysfsdev") => "/sys/bus/pci/devices/0000:01:00.1".into(),
            ("/machine/peripheral/hd2", "pref64-reserve") => (64 << 20).into(),
            ("/machine/peripheral/hd2", "mem-reserve") => (2 << 20).into(),
            _ => Value::Null,
        }
    }

    fn card() -> GuestSlot {
        GuestSlot::place(["0000:01:00.0", "0000:01:00.1"].map(|text| text.parse().unwrap())).at(1)
    }

    #[test]
    fn a_port_leads_to_the_bus_that_the_firmware_gave_it() {
        let port =
            |id: &str, bus: u32| json!({"qdev_id": id, "pci_bridge": {"bus": {"secondary": bus}}});
        let first =
            json!({"bus": 0, "devices": [port("hd0", 4), port("hd1", 6), {"qdev_id": "hd2"}]});
        let bus = "06:00".parse().unwrap();
        let found: Vec<u32> = (0..4).filter(|port| leads_to(&first, *port, bus)).collect();
        assert_eq!(found, [1]);
        assert!(!leads_to(&json!(null), 1, bus));
    }

    #[test]
    fn a_card_is_out_when_qemu_has_none_of_its_functions() {
        let (_dir, path) = qemu(1, 0);
        let soon = Instant::now() + Duration::from_secs(30);
        let control = Control::running(path.clone());
        assert_eq!(unplug(&card(), &control, soon).unwrap(), Unplugged::Out);
        let mut monitor = Monitor::begin(control.connect(soon).unwrap(), soon).unwrap();
        assert_eq!(plugged(&mut monitor, soon).unwrap().len(), 1);
    }

    #[test]
    fn a_guest_that_keeps_it_or_is_busy_is_told() {
        for (busy, why) in [(0, "the guest did not let go of it"), (1, "guest is busy")] {
            let (_dir, path) = qemu(usize::MAX, busy);
            let soon = Instant::now() + Duration::from_millis(100);
            let kept = unplug(&card(), &Control::running(path), soon).unwrap();
            assert_eq!(kept, Unplugged::Kept(why.into()));
        }
    }

    #[test]
    fn a_port_must_be_free_and_large_enough() {
        let (_dir, path) = qemu(0, 0);
        let soon = Instant::now() + Duration::from_secs(30);
        let control = Control::running(path);
        let mut monitor = Monitor::begin(control.connect(soon).unwrap(), soon).unwrap();
        let mut free = |prefetchable: u64, taken: &[u32]| {
            let room = Room { prefetchable, ..Room::default() };
            free_port(room, None, taken, &mut monitor, soon)
                .unwrap()
                .map_err(|error| error.to_string())
        };
        // Nothing was reserved for port 1: it has what its device had.
        assert_eq!(free(64 << 20, &[]), Ok(1));
        assert_eq!(free(64 << 20, &[1]), Ok(2));
        assert!(free(128 << 20, &[1]).unwrap_err().contains("needs 128 MB of prefetchable"));
        assert_eq!(free(0, &[1, 2]).unwrap_err(), "the machine has no free port for a device");
    }
}
