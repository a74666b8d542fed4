//! What a machine has besides processors, memory, its root disk and devices: firmware, network cards, other disks, a seed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Cpu, Display, GuestDisk, Life, Rom, Secret};
use crate::Mac;

/// The options of a machine. The default is what machines of earlier versions have: a BIOS, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineOptions {
    /// The firmware.
    pub firmware: Firmware,
    /// The network cards, in the order in which the guest sees them.
    pub cards: Vec<NetworkCard>,
    /// The disks besides the root disk, in the order in which the guest sees them.
    pub disks: Vec<GuestDisk>,
    /// Whether there is no root disk: the image is only in a CD-ROM, and the machine boots that or one of `disks`.
    pub is_without_root: bool,
    /// Its screen, if any.
    pub display: Option<Display>,
    /// The password of viewers that reach the screen by its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_password: Option<Secret>,
    /// Whether it has a TPM 2.0, which swtpm emulates.
    pub tpm: bool,
    /// Whether it has a port for an agent in the guest. Machines of earlier versions have none.
    pub agent: bool,
    /// The ROMs of devices that are not the devices' own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roms: Vec<Rom>,
    /// The seed for the first boot, if any.
    pub seed: Option<Seed>,
    /// Its processors, besides their number.
    pub cpu: Cpu,
    /// When it is started without a request. Launchers do not read it.
    pub life: Life,
}

impl MachineOptions {
    /// Whether a card is connected to a user network.
    #[must_use]
    pub const fn has_user_network(&self) -> bool {
        !self.cards.is_empty()
    }

    /// The address on which the screen listens, if it does.
    #[must_use]
    pub fn screen(&self) -> Option<SocketAddr> {
        self.display.and_then(|display| display.listen)
    }

    /// The forwarded ports of all cards.
    pub fn forwards(&self) -> impl Iterator<Item = &Forward> {
        self.cards.iter().flat_map(|card| &card.forwards)
    }
}

/// The program that the virtual processor executes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS, which is part of QEMU's packages.
    #[default]
    Bios,
    /// OVMF, without Secure Boot.
    Uefi,
    /// OVMF with Secure Boot, which has the usual keys: it starts only what Microsoft has signed.
    UefiSecure,
}

impl Firmware {
    /// Every firmware.
    pub const ALL: [Self; 3] = [Self::Bios, Self::Uefi, Self::UefiSecure];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
            Self::UefiSecure => "uefi-secure",
        }
    }
}

/// A virtual network card on a user network: passt translates the guest's connections to sockets of this host, without
/// any privilege (passt(1)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCard {
    /// Its hardware address.
    pub mac: Mac,
    /// Ports of the host that lead to ports of the guest.
    pub forwards: Vec<Forward>,
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
}

/// A forwarded port, written `[ADDRESS:]HOST_PORT:GUEST_PORT[/tcp|/udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address that is listened on; loopback unless another was asked for.
    pub address: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The guest's port.
    pub guest_port: u16,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Forward {
    /// Whether it leads to the guest's SSH server, at its usual port.
    #[must_use]
    pub fn is_ssh(&self) -> bool {
        self.protocol == Protocol::Tcp && self.guest_port == 22
    }

    /// Whether both cannot be listened on at once: the same protocol and port, and the same address or all addresses.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let addresses = [self.address, other.address];
        let everywhere = addresses.iter().any(IpAddr::is_unspecified);
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && (everywhere || self.address == other.address)
    }
}

/// The text is not a forwarded port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a forwarded port such as 2222:22, 127.0.0.1:8080:80 or 5353:53/udp")]
pub struct ForwardError(String);

impl FromStr for Forward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let read = || {
            let (ports, protocol) = match text.split_once('/') {
                None => (text, Protocol::Tcp),
                Some((ports, "tcp")) => (ports, Protocol::Tcp),
                Some((ports, "udp")) => (ports, Protocol::Udp),
                Some(_) => return None,
            };
            let (rest, guest) = ports.rsplit_once(':')?;
            let (address, host) = rest.rsplit_once(':').unwrap_or(("127.0.0.1", rest));
            let address = address
                .strip_prefix('[')
                .and_then(|text| text.strip_suffix(']'))
                .unwrap_or(address);
            let port = |text: &str| {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>().ok().filter(|port| digits && *port > 0)
            };
            let address: IpAddr = address.parse().ok()?;
            let no_one = match address {
                IpAddr::V4(address) => address.is_broadcast(),
                IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
            };
            if no_one || address.is_multicast() {
                return None;
            }
            Some(Self { protocol, address, host_port: port(host)?, guest_port: port(guest)? })
        };
        read().ok_or_else(|| ForwardError(text.into()))
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, address, host_port, guest_port } = self;
        match address {
            IpAddr::V4(address) => {
                write!(f, "{address}:{host_port}:{guest_port}/{}", protocol.as_str())
            }
            IpAddr::V6(address) => {
                write!(f, "[{address}]:{host_port}:{guest_port}/{}", protocol.as_str())
            }
        }
    }
}

/// What configures the guest at its first boot, in the files of cloud-init's NoCloud data source: a small disk named
/// `cidata` (<https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// `meta-data`: the instance's id and host name, and the keys that may log in.
    pub meta_data: String,
    /// `vendor-data`: what Handover sets, which `user_data` can override.
    pub vendor_data: String,
    /// `user-data`: the user's own configuration, unchanged.
    pub user_data: String,
    /// The guest's name.
    pub hostname: String,
    /// The public half of the guest's SSH host key, which is in `vendor_data`: `ssh-ed25519 AAAA...`.
    pub host_key: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_read_as_it_is_written() {
        for (text, shown) in [
            ("2222:22", "127.0.0.1:2222:22/tcp"),
            ("0.0.0.0:80:8080", "0.0.0.0:80:8080/tcp"),
            ("5353:53/udp", "127.0.0.1:5353:53/udp"),
            ("[::1]:2222:22/tcp", "[::1]:2222:22/tcp"),
        ] {
            let forward: Forward = text.parse().unwrap();
            assert_eq!(forward.to_string(), shown);
            assert_eq!(shown.parse::<Forward>(), Ok(forward));
        }
        for wrong in [
            "",
            "22",
            "0:22",
            "22:0",
            "a:22",
            "22:22/icmp",
            "host:22:22",
            "+1:22",
            "70000:22",
            "22:22/tcp/udp",
            "224.0.0.1:22:22",
            "255.255.255.255:22:22",
            "[::ffff:127.0.0.1]:22:22",
        ] {
            assert!(wrong.parse::<Forward>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_forwards_collide_on_one_address_or_all() {
        let collide = |a: &str, b: &str| {
            a.parse::<Forward>().unwrap().collides(&b.parse::<Forward>().unwrap())
        };
        assert!(collide("2222:22", "2222:80"));
        assert!(collide("0.0.0.0:2222:22", "2222:22"));
        assert!(!collide("2222:22", "127.0.0.2:2222:22"));
        assert!(!collide("2222:22", "2222:22/udp"));
        assert!(!collide("2222:22", "2223:22"));
    }

    #[test]
    fn machines_of_earlier_versions_have_a_bios_and_no_network() {
        let options: MachineOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(options, MachineOptions::default());
        assert_eq!(options.firmware, Firmware::Bios);
        assert!(!options.has_user_network() && !options.tpm && !options.agent);
    }

    #[test]
    fn a_firmware_is_stored_as_it_is_written() {
        for firmware in Firmware::ALL {
            assert_eq!(serde_json::to_value(firmware).unwrap(), firmware.as_str());
        }
    }
}
