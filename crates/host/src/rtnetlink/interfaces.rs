//! Makes, changes and removes interfaces for the network cards of machines.

use model::Mac;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVtap, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVtapMode,
};

use super::{Refused, answer, ask};

/// Gives an interface a hardware address and a size of packets, makes it a port of a bridge, and sets it up.
///
/// # Errors
/// The kernel's error.
pub fn connect(interface: u32, bridge: u32, mac: Mac, mtu: Option<u32>) -> Result<(), Refused> {
    let mut message = up(interface);
    message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message.attributes.push(LinkAttribute::Controller(bridge));
    send(RouteNetlinkMessage::SetLink(message), 0)
}

/// Makes a macvtap interface on another one, in the mode `bridge`, and sets it up.
///
/// # Errors
/// The kernel's error; `EEXIST` if an interface of that name exists.
pub fn add_macvtap(name: &str, on: u32, mac: Mac) -> Result<(), Refused> {
    let mut message = up(0);
    let mode = InfoData::MacVtap(vec![InfoMacVtap::Mode(MacVtapMode::Bridge)]);
    let info = vec![LinkInfo::Kind(InfoKind::MacVtap), LinkInfo::Data(mode)];
    message.attributes.extend([
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Link(on),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::LinkInfo(info),
    ]);
    send(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Removes an interface.
///
/// # Errors
/// The kernel's error.
pub fn remove(interface: u32) -> Result<(), Refused> {
    let mut message = LinkMessage::default();
    message.header.index = interface;
    send(RouteNetlinkMessage::DelLink(message), 0)
}

/// A message that sets an interface up.
fn up(interface: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = interface;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn send(message: RouteNetlinkMessage, flags: u16) -> Result<(), Refused> {
    ask(message, NLM_F_REQUEST | NLM_F_ACK | flags).and_then(|message| answer(&message)).map(drop)
}
