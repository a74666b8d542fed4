//! rtnetlink(7): switches interfaces on, and sets addresses and routes.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// Switches an interface on, and sets its MTU if there is one.
pub fn switch_on(index: u32, mtu: Option<u32>) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    ask(RouteNetlinkMessage::SetLink(message), 0)
}

/// Gives an interface an address. One that it has already is no error.
pub fn add_address(index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    let mut message = address_message(index, address, prefix);
    // The command may use the address at once: a search for duplicates would keep it back for a second.
    message.header.flags = AddressHeaderFlags::Nodad;
    if let (IpAddr::V4(address), prefix @ 0..=30) = (address, prefix) {
        let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let broadcast = (u32::from(address) | host).into();
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Takes an address from an interface.
pub fn remove_address(index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    ask(RouteNetlinkMessage::DelAddress(address_message(index, address, prefix)), 0)
}

fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message
}

/// Adds a route to a network over an interface, by a gateway if there is one.
pub fn add_route(index: u32, network: (IpAddr, u8), gateway: Option<IpAddr>) -> io::Result<()> {
    let (destination, prefix) = network;
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    if prefix > 0 {
        message.attributes.push(RouteAttribute::Destination(destination.into()));
    }
    message.attributes.extend(gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.push(RouteAttribute::Oif(index));
    ask(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Sends one message and reads the kernel's answer.
fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    let socket = socket_with(
        rustix::net::AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sendto(&socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = vec![0; 8192];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    outcome(answer.get(..length).unwrap_or_default())
}

/// An answer is an error's number, 0 for none.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let strange = || io::Error::other("the kernel's answer is not understood");
    let message = NetlinkBuffer::new_checked(answer).map_err(|_| strange())?;
    if message.message_type() != NLMSG_ERROR {
        return Err(strange());
    }
    let number = message.payload().first_chunk().ok_or_else(strange)?;
    match i32::from_ne_bytes(*number) {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number.saturating_neg())),
    }
}
