//! The virtual network cards of a machine.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Forward, PartKey};
use crate::{Code, Mac, Refusal};

/// The longest name of a network interface (`IFNAMSIZ` in include/uapi/linux/if.h, without the zero at the end).
const LONGEST_NAME: usize = 15;

/// A virtual network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCard {
    /// Its hardware address.
    pub mac: Mac,
    /// How it is connected. Cards of earlier versions are connected by passt.
    #[serde(default)]
    pub link: CardLink,
    /// Ports of the host that lead to ports of the guest; only by passt.
    pub forwards: Vec<Forward>,
    /// The port for devices that it is behind, if it was plugged into the running machine: it can leave again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
}

/// How a network card is connected to the host's networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardLink {
    /// passt translates the guest's connections to sockets of this host, without any privilege (passt(1)).
    #[default]
    User,
    /// A tap interface is a port of this bridge. The kernel removes it with the VMM, which has its only descriptor.
    Bridge {
        /// The bridge's name.
        bridge: String,
    },
    /// A macvtap interface on this interface of the host, in the mode `bridge`: the guest reaches the network, and other
    /// guests on the same interface, but not the host.
    Macvtap {
        /// The interface's name.
        interface: String,
        /// Whether it may be the host's only way out.
        force: bool,
    },
}

impl CardLink {
    /// Its mode, as on the wire.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Bridge { .. } => "bridge",
            Self::Macvtap { .. } => "macvtap",
        }
    }

    /// The interface of the host that it is connected to.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::User => None,
            Self::Bridge { bridge } => Some(bridge),
            Self::Macvtap { interface, .. } => Some(interface),
        }
    }

    /// Whether passt connects it.
    #[must_use]
    pub const fn is_user(&self) -> bool {
        matches!(self, Self::User)
    }
}

impl NetworkCard {
    /// The guest's address in a user network, by DHCP.
    pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    /// The length of the network's prefix, in bits.
    pub const PREFIX: u8 = 24;
    /// The guest's gateway.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    /// The guest's name server, which forwards to the host's.
    pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

    /// The most cards of a machine.
    pub const MOST: usize = 8;

    /// The host's interface of a machine's card that is not connected by passt, such as `ho-1a2b3c4d-0`. `number` is its place
    /// among the machine's cards; one behind a port for devices is named by that, such as `ho-1a2b3c4d-p2`, because others
    /// before it can leave.
    #[must_use]
    pub fn host_interface(&self, machine: Uuid, number: usize) -> String {
        let id = machine.simple().to_string();
        let id = id.get(..8).unwrap_or(&id);
        match self.port {
            None => format!("ho-{id}-{number}"),
            Some(port) => Self::interface_at(machine, port),
        }
    }

    /// The host's interface of the card that is behind this port.
    #[must_use]
    pub fn interface_at(machine: Uuid, port: u32) -> String {
        let id = machine.simple().to_string();
        format!("ho-{}-p{port:x}", id.get(..8).unwrap_or(&id))
    }

    /// What it is known by while it comes or leaves.
    #[must_use]
    pub const fn key(&self) -> PartKey {
        PartKey::Card(self.mac)
    }
}

/// Checks the name of an interface: 1 to 15 letters, digits, `_`, `.`, `@` and `-`, with no dot at the beginning. The kernel
/// allows more (`dev_valid_name` in net/core/dev.c), which no one uses.
///
/// # Errors
/// `invalid_request` with the rule.
pub fn check_interface_name(name: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte);
    let fits = (1..=LONGEST_NAME).contains(&name.len());
    if fits && name.bytes().all(allowed) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        format!("{name:?} is not the name of a network interface"),
        "use one that `ip link` shows, such as br0",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_kernel_allows() {
        for good in ["br0", "enp1s0f0np0", "eth0.100", "vm-net", "a@b"] {
            assert!(check_interface_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "a,b", ".a", "abcdefghijklmnop", "brücke"]
        {
            assert!(check_interface_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cards_interface_has_a_name_that_fits() {
        let machine = Uuid::from_u128(u128::MAX);
        let link = CardLink::Bridge { bridge: "br0".into() };
        let card = NetworkCard { mac: Mac([2; 6]), link, forwards: Vec::new(), port: None };
        let name = card.host_interface(machine, NetworkCard::MOST - 1);
        assert_eq!(name, "ho-ffffffff-7");
        assert!(check_interface_name(&name).is_ok());
        let plugged = NetworkCard { port: Some(0xff), ..card }.host_interface(machine, 0);
        assert_eq!(plugged, "ho-ffffffff-pff");
        assert!(check_interface_name(&plugged).is_ok());
    }

    #[test]
    fn cards_of_earlier_versions_are_connected_by_passt() {
        let text = r#"{"mac": "52:54:00:12:34:56", "forwards": []}"#;
        let card: NetworkCard = serde_json::from_str(text).unwrap();
        assert!(card.link.is_user());
        for link in [
            CardLink::User,
            CardLink::Bridge { bridge: "br0".into() },
            CardLink::Macvtap { interface: "eth0".into(), force: true },
        ] {
            let card = NetworkCard { link, ..card.clone() };
            let text = serde_json::to_string(&card).unwrap();
            assert_eq!(serde_json::from_str::<NetworkCard>(&text).unwrap(), card, "{text}");
        }
    }
}
