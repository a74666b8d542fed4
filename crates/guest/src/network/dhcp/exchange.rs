//! Asking servers, with repetitions.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use super::Lease;
use super::packet::{ACK, DISCOVER, NAK, OFFER, REQUEST, Request, parse};
use crate::network::interfaces::Interface;
use crate::sys;

const CLIENT: u16 = 68;
const SERVER: u16 = 67;
/// A server answers within milliseconds; a bridge that has just learned of the card may take seconds.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Asks for a new lease until `until`.
pub fn obtain(interface: &Interface, hostname: &str, until: Instant) -> io::Result<Lease> {
    let socket = socket(interface)?;
    let mut wait = FIRST_WAIT;
    while Instant::now() < until {
        let transaction = transaction(interface);
        let to = Ipv4Addr::BROADCAST;
        let ask = |kind, wanted| Request {
            kind,
            transaction,
            mac: interface.mac,
            own: None,
            wanted,
            hostname,
        };
        let deadline = (Instant::now() + wait).min(until);
        if let Some((OFFER, offer)) = exchange(&socket, &ask(DISCOVER, None), to, deadline) {
            let request = ask(REQUEST, Some((offer.address, offer.server)));
            let deadline = (Instant::now() + wait).min(until);
            if let Some((ACK, lease)) = exchange(&socket, &request, to, deadline) {
                return Ok(lease);
            }
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    Err(io::Error::other("no DHCP server answered"))
}

/// Renews a lease with its server. None: the server does not answer. An error: it does not lease the address any more.
pub fn renew(interface: &Interface, hostname: &str, lease: &Lease) -> io::Result<Option<Lease>> {
    let socket = socket(interface)?;
    let request = Request {
        kind: REQUEST,
        transaction: transaction(interface),
        mac: interface.mac,
        own: Some(lease.address),
        wanted: None,
        hostname,
    };
    let deadline = Instant::now() + LONGEST_WAIT;
    match exchange(&socket, &request, lease.server, deadline) {
        Some((ACK, lease)) => Ok(Some(lease)),
        Some((NAK, _)) => {
            Err(io::Error::other("the DHCP server does not lease the address any more"))
        }
        _ => Ok(None),
    }
}

fn socket(interface: &Interface) -> io::Result<UdpSocket> {
    let socket = sys::udp_socket(&interface.name, CLIENT)?;
    socket.set_broadcast(true)?;
    Ok(socket)
}

/// Differs between machines and between requests. It is no secret: all of the network can read it.
fn transaction(interface: &Interface) -> u32 {
    let mut bytes = [0; 4];
    let random = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    if random.is_ok() {
        return u32::from_ne_bytes(bytes);
    }
    let [.., a, b, c, d] = interface.mac;
    u32::from_be_bytes([a, b, c, d])
}

/// Sends a request, and waits for an answer that belongs to it.
fn exchange(
    socket: &UdpSocket,
    request: &Request<'_>,
    to: Ipv4Addr,
    deadline: Instant,
) -> Option<(u8, Lease)> {
    socket.send_to(&request.bytes(), SocketAddrV4::new(to, SERVER)).ok()?;
    let mut bytes = [0; 1500];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        socket.set_read_timeout(Some(left)).ok()?;
        let Ok((length, _)) = socket.recv_from(&mut bytes) else { continue };
        let answer = parse(bytes.get(..length)?, request.transaction, request.mac);
        let expected = if request.kind == DISCOVER { OFFER } else { ACK };
        if let Some((kind, lease)) = answer
            && (kind == expected || kind == NAK)
        {
            return Some((kind, lease));
        }
    }
}
