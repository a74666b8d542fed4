//! Disks and network cards of a running machine. Each is behind a port for devices, whose function 0 it is. What is behind it has
//! names after the port: the node and the set of descriptors of a disk, the backend of a card.
//!
//! A descriptor that no node uses is closed by QEMU when the connection to the monitor ends (`monitor_fdsets_cleanup` in
//! monitor/fds.c), so a daemon that dies in between leaves none.

use std::time::{Duration, Instant};

use model::{NewPart, PartKind, PartPlace, PartPlug, Unplugged};
use rustix::fd::OwnedFd;
use serde_json::json;

use super::argv::{card_at_port, disk_at_port, disk_backend, disk_node, disk_set, netdev_at_port};
use super::hot_plug::{devices, let_go, port_of};
use super::qmp::Monitor;
use crate::process::{Control, ControlError};

/// The names of a card's descriptors on their way: its interface's, and that of vhost-net.
const CARD_NAMES: [&str; 2] = ["handover-card", "handover-vhost"];

/// How often a node is asked to be closed: the device that used it is gone a moment before.
const CLOSES: u32 = 40;
const BETWEEN: Duration = Duration::from_millis(50);

/// Plugs a disk or a network card.
pub fn plug(
    plug: &PartPlug,
    descriptors: &[OwnedFd],
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<(), ControlError> {
    let device = match (&plug.part, descriptors) {
        (NewPart::Disk(file), [descriptor]) => {
            let set = disk_set(plug.port);
            monitor.pass_in_set(descriptor, set, deadline)?;
            let backend = disk_backend(&disk_node(plug.port), set, file);
            monitor.execute("blockdev-add", backend, deadline)?;
            disk_at_port(plug.port, file)
        }
        (NewPart::Card(card), [descriptor, vhost @ ..]) => {
            let [name, vhost_name] = CARD_NAMES;
            monitor.pass(descriptor, name, deadline)?;
            let vhost = vhost.first();
            vhost.map_or(Ok(()), |vhost| monitor.pass(vhost, vhost_name, deadline))?;
            let backend = netdev_at_port(plug.port, name, vhost.map(|_| vhost_name));
            let added = monitor.execute("netdev_add", backend, deadline);
            if added.is_err() {
                forget_descriptors(monitor, deadline)?;
            }
            added?;
            card_at_port(plug.port, card)
        }
        _ => return Err(ControlError::Refused("plug".into(), "it has no descriptor".into())),
    };
    monitor.execute("device_add", device, deadline).map(drop)
}

/// Asks the guest to let go of a part, waits for it, and closes what is behind it.
pub fn unplug(
    place: PartPlace,
    control: &Control<'_>,
    deadline: Instant,
) -> Result<Unplugged, ControlError> {
    let own = |monitor: &mut Monitor, deadline: Instant| {
        let all = devices(monitor, deadline)?;
        Ok(all.into_iter().filter(|one| found(one) == Some(place)).map(|(id, _)| (id, 0)).collect())
    };
    let last = deadline + super::hot_plug::LAST_ANSWER;
    match let_go(own, control, deadline)? {
        Unplugged::Out => {}
        kept @ Unplugged::Kept(_) => return Ok(kept),
    }
    let mut monitor = Monitor::begin(control.connect(last)?, last)?;
    close(place, &mut monitor, last)
}

/// Closes what is behind a part that is out.
fn close(
    place: PartPlace,
    monitor: &mut Monitor,
    deadline: Instant,
) -> Result<Unplugged, ControlError> {
    if place.kind == PartKind::Card {
        forget_descriptors(monitor, deadline)?;
    }
    for turn in 0..CLOSES {
        if turn > 0 {
            std::thread::sleep(BETWEEN);
        }
        let (command, name) = match place.kind {
            PartKind::Disk => ("blockdev-del", json!({"node-name": disk_node(place.port)})),
            PartKind::Card => ("netdev_del", json!({"id": super::argv::netdev_id_at(place.port)})),
        };
        match monitor.execute(command, name, deadline) {
            Ok(_) => break,
            // The device that used it is not quite gone yet.
            Err(ControlError::Refused(_, reason)) if reason.contains("in use") => {
                if turn + 1 == CLOSES {
                    return Ok(Unplugged::Kept(crate::process::printable(&reason)));
                }
            }
            // There is none.
            Err(ControlError::Refused(..)) => break,
            Err(error) => return Err(error),
        }
    }
    if place.kind == PartKind::Disk {
        let set = json!({"fdset-id": disk_set(place.port)});
        match monitor.execute("remove-fd", set, deadline) {
            // It went with the node.
            Ok(_) | Err(ControlError::Refused(..)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Unplugged::Out)
}

/// Lets QEMU close descriptors that no backend has taken.
fn forget_descriptors(monitor: &mut Monitor, deadline: Instant) -> Result<(), ControlError> {
    for name in CARD_NAMES {
        match monitor.execute("closefd", json!({"fdname": name}), deadline) {
            Ok(_) | Err(ControlError::Refused(..)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The parts behind ports for devices that QEMU has.
pub fn plugged(monitor: &mut Monitor, deadline: Instant) -> Result<Vec<PartPlace>, ControlError> {
    Ok(devices(monitor, deadline)?.iter().filter_map(found).collect())
}

/// The place of a device that is such a part, by its id and type.
fn found((id, kind): &(String, String)) -> Option<PartPlace> {
    let kind = match kind.strip_prefix("child<")?.trim_end_matches('>') {
        "virtio-blk-pci" | "nvme" => PartKind::Disk,
        "virtio-net-pci" => PartKind::Card,
        _ => return None,
    };
    let port = port_of(id.strip_suffix("f0")?)?;
    Some(PartPlace { port, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_part_is_known_by_its_port_and_its_type() {
        let of = |id: &str, kind: &str| found(&(id.into(), format!("child<{kind}>")));
        let disk = |port| Some(PartPlace { port, kind: PartKind::Disk });
        assert_eq!((of("hd3f0", "virtio-blk-pci"), of("hd12f0", "nvme")), (disk(3), disk(12)));
        let card = PartPlace { port: 0, kind: PartKind::Card };
        assert_eq!(of("hd0f0", "virtio-net-pci"), Some(card));
        for (id, kind) in
            [("data0", "virtio-blk-pci"), ("hd3f0", "vfio-pci"), ("hd3", "pcie-root-port")]
        {
            assert_eq!(of(id, kind), None, "{id}");
        }
    }

    /// A QEMU with a disk in port 2, whose node is in use at first. Returns what it was asked.
    fn qemu(path: &std::path::Path) -> Arc<Mutex<Vec<String>>> {
        let listener = UnixListener::bind(path).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let (mut is_there, mut is_used) = (true, 2);
            while let Ok((stream, _)) = listener.accept() {
                let mut output = stream.try_clone().unwrap();
                drop(output.write_all(b"{\"QMP\": {}}\n"));
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let message: Value = serde_json::from_str(&line).unwrap();
                    let command = message["execute"].as_str().unwrap().to_owned();
                    let mut answer = match command.as_str() {
                        "qom-list" if is_there => json!({"return": [
                            {"name": "hd2f0", "type": "child<virtio-blk-pci>"},
                            {"name": "data0", "type": "child<virtio-blk-pci>"},
                        ]}),
                        "qom-list" => json!({"return": []}),
                        "device_del" => {
                            assert_eq!(message["arguments"]["id"], "hd2f0");
                            is_there = false;
                            json!({"return": {}})
                        }
                        "blockdev-del" if is_used > 0 => {
                            is_used -= 1;
                            json!({"error": {"desc": "Node hd2disk is in use"}})
                        }
                        "remove-fd" => {
                            json!({"error": {"desc": "File descriptor named 'x' not found"}})
                        }
                        _ => json!({"return": {}}),
                    };
                    if !command.starts_with("qo") {
                        log.lock().unwrap().push(format!("{command} {}", message["arguments"]));
                    }
                    answer["id"] = message["id"].clone();
                    drop(output.write_all(format!("{answer}\n").as_bytes()));
                }
            }
        });
        asked
    }

    #[test]
    fn a_disk_leaves_before_its_file_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor");
        let asked = qemu(&path);
        let soon = Instant::now() + Duration::from_secs(30);
        let control = Control::running(path);
        let place = PartPlace { port: 2, kind: PartKind::Disk };
        let mut monitor = Monitor::begin(control.connect(soon).unwrap(), soon).unwrap();
        assert_eq!(plugged(&mut monitor, soon).unwrap(), [place]);
        drop(monitor);
        assert_eq!(unplug(place, &control, soon).unwrap(), Unplugged::Out);
        let asked = asked.lock().unwrap();
        let of = |start: &str| asked.iter().position(|one| one.starts_with(start));
        assert!(of("device_del") < of("blockdev-del") && of("blockdev-del") < of("remove-fd"));
        let closes = asked.iter().filter(|one| one.contains(r#""node-name":"hd2disk""#));
        assert_eq!(closes.count(), 3, "{asked:?}");
        // One that it does not have is out, too.
        drop(asked);
        assert_eq!(unplug(place, &control, soon).unwrap(), Unplugged::Out);
    }
}
