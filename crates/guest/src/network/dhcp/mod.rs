//! A DHCP client (RFC 2131), as small as a machine needs it.
//!
//! Over a socket with the broadcast flag: answers then come to all, so that no address and no raw socket is needed.

mod exchange;
mod packet;

use std::net::Ipv4Addr;

pub use exchange::{obtain, renew};
use serde::{Deserialize, Serialize};

/// What a server has leased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The server.
    pub server: Ipv4Addr,
    /// Routes: the network, its prefix, and the gateway; 0.0.0.0 is none.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The domain.
    pub domain: Option<String>,
    /// The size of packets.
    pub mtu: Option<u32>,
    /// How long it is valid. None: for ever.
    pub seconds: Option<u32>,
}
