//! The network cards.

use model::{MachineSpec, NetworkCard};
use serde_json::{Value, json};

use super::{Ports, function_id, port_id};
use crate::process::{FD, HostCard, VHOST_FD};

/// The id of a network card, such as `card0`.
pub fn card_id(number: usize) -> String {
    format!("card{number}")
}

fn netdev_id(number: usize) -> String {
    format!("net{number}")
}

/// The id of a machine's card: after its port, if it is behind one for devices.
pub fn id_of(number: usize, card: &NetworkCard) -> String {
    card.port.map_or_else(|| card_id(number), |port| function_id(port, 0))
}

fn netdev_of(number: usize, card: &NetworkCard) -> String {
    card.port.map_or_else(|| netdev_id(number), netdev_id_at)
}

/// The id of what is behind the card behind a port for devices.
pub fn netdev_id_at(port: u32) -> String {
    format!("{}net", port_id(port))
}

/// What is behind the card behind a port for devices, by the names of its descriptors.
pub fn netdev_at_port(port: u32, fd: &str, vhost: Option<&str>) -> Value {
    tap(&netdev_id_at(port), fd, vhost)
}

/// A card behind a port for devices.
pub fn card_at_port(port: u32, card: &NetworkCard) -> Value {
    device(&function_id(port, 0), &netdev_id_at(port), card, &port_id(port))
}

fn tap(id: &str, fd: &str, vhost: Option<&str>) -> Value {
    match vhost {
        None => json!({"type": "tap", "id": id, "fd": fd}),
        Some(vhost) => json!({"type": "tap", "id": id, "fd": fd, "vhost": true, "vhostfd": vhost}),
    }
}

/// A virtual network card. It has no boot ROM: the firmware boots only the disk.
fn device(id: &str, netdev: &str, card: &NetworkCard, bus: &str) -> Value {
    json!({
        "driver": "virtio-net-pci",
        "id": id,
        "netdev": netdev,
        "mac": card.mac.to_string(),
        "bus": bus,
        "romfile": "",
    })
}

/// The arguments that connect a network card to passt, with [`FD`] for the descriptor.
pub fn netdev(number: usize) -> Vec<String> {
    let backend = json!({
        "type": "stream",
        "id": netdev_id(number),
        "server": false,
        "addr": {"type": "fd", "str": FD},
    });
    vec!["-netdev".into(), backend.to_string()]
}

/// The cards that are connected to bridges and interfaces of the host.
pub fn host_cards(spec: &MachineSpec) -> Vec<HostCard> {
    let cards = spec.options.cards.iter().enumerate().filter(|(_, card)| !card.link.is_user());
    let host_card = |(number, card): (usize, &NetworkCard)| {
        let id = netdev_of(number, card);
        let (own, vhost) = (tap(&id, FD, None), tap(&id, FD, Some(VHOST_FD)));
        HostCard {
            interface: card.host_interface(spec.id, number),
            link: card.link.clone(),
            mac: card.mac,
            vmm_args: vec!["-netdev".into(), own.to_string()],
            vhost_args: vec!["-netdev".into(), vhost.to_string()],
        }
    };
    cards.map(host_card).collect()
}

/// A network card of a machine.
pub fn card(ports: &mut Ports, number: usize, card: &NetworkCard) {
    if let Some(port) = card.port {
        ports.device(card_at_port(port, card));
        return;
    }
    let bus = ports.port(&format!("card{number}-port"));
    ports.device(device(&card_id(number), &netdev_id(number), card, &bus));
}
