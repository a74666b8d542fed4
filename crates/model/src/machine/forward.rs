//! Ports of the host that lead to ports of a guest.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
}
