//! The network cards.

use model::{MachineSpec, NetworkCard};
use serde_json::json;

use super::Ports;
use crate::process::{FD, HostCard, VHOST_FD};

/// The id of a network card, such as `card0`.
pub fn card_id(number: usize) -> String {
    format!("card{number}")
}

fn netdev_id(number: usize) -> String {
    format!("net{number}")
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
        let tap = json!({"type": "tap", "id": netdev_id(number), "fd": FD});
        let vhost = json!({
            "type": "tap", "id": netdev_id(number), "fd": FD, "vhost": true, "vhostfd": VHOST_FD,
        });
        HostCard {
            interface: NetworkCard::host_interface(spec.id, number),
            link: card.link.clone(),
            mac: card.mac,
            vmm_args: vec!["-netdev".into(), tap.to_string()],
            vhost_args: vec!["-netdev".into(), vhost.to_string()],
        }
    };
    cards.map(host_card).collect()
}

/// A virtual network card. It has no boot ROM: the firmware boots only the disk.
pub fn card(ports: &mut Ports, number: usize, card: &NetworkCard) {
    let bus = ports.port(&format!("card{number}-port"));
    ports.device(json!({
        "driver": "virtio-net-pci",
        "id": card_id(number),
        "netdev": netdev_id(number),
        "mac": card.mac.to_string(),
        "bus": bus,
        "romfile": "",
    }));
}
