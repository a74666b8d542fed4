//! DHCP packets (RFC 2131, options of RFC 2132 and RFC 3442).

use std::net::Ipv4Addr;

use super::Lease;

/// The kinds of messages (option 53).
pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;

const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Where the options begin, after the magic number.
const OPTIONS: usize = 240;
/// The most routes and name servers that are taken.
const MOST: usize = 16;

/// A request.
pub struct Request<'a> {
    /// Its kind.
    pub kind: u8,
    /// It connects answers with requests.
    pub transaction: u32,
    /// The card's address.
    pub mac: [u8; 6],
    /// The address that the card has: the lease is renewed.
    pub own: Option<Ipv4Addr>,
    /// The address and the server that are accepted.
    pub wanted: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The machine's name.
    pub hostname: &'a str,
}

impl Request<'_> {
    /// The packet.
    pub fn bytes(&self) -> Vec<u8> {
        // A request of Ethernet; broadcast answers, unless the card has an address.
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(self.transaction.to_be_bytes());
        let flags: u16 = if self.own.is_some() { 0 } else { 0x8000 };
        bytes.extend([0, 0]);
        bytes.extend(flags.to_be_bytes());
        bytes.extend(self.own.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        bytes.resize(28, 0);
        bytes.extend(self.mac);
        bytes.resize(OPTIONS - MAGIC.len(), 0);
        bytes.extend(MAGIC);
        let mut option = |kind: u8, value: &[u8]| {
            let value = value.get(..value.len().min(255)).unwrap_or_default();
            bytes.push(kind);
            bytes.push(u8::try_from(value.len()).unwrap_or(0));
            bytes.extend(value);
        };
        option(53, &[self.kind]);
        let [a, b, c, d, e, f] = self.mac;
        option(61, &[1, a, b, c, d, e, f]);
        option(57, &1472_u16.to_be_bytes());
        option(55, &[1, 3, 6, 15, 26, 51, 54, 121]);
        if let Some((address, server)) = self.wanted {
            option(50, &address.octets());
            option(54, &server.octets());
        }
        if !self.hostname.is_empty() {
            option(12, self.hostname.as_bytes());
        }
        bytes.push(255);
        // Some servers want packets of BOOTP's size.
        bytes.resize(bytes.len().max(300), 0);
        bytes
    }
}

/// What a server answers to this transaction: the kind, and the lease. Anyone on the network can send anything.
pub fn parse(bytes: &[u8], transaction: u32, mac: [u8; 6]) -> Option<(u8, Lease)> {
    let (header, options) = bytes.split_at_checked(OPTIONS)?;
    let ours = header.first() == Some(&2)
        && header.get(4..8) == Some(&transaction.to_be_bytes())
        && header.get(28..34) == Some(&mac)
        && header.get(236..240) == Some(&MAGIC);
    if !ours {
        return None;
    }
    let mut answer = Answer::default();
    answer.read(options)?;
    let address = addresses(header.get(16..20)?).next()?;
    let server = answer.server?;
    let routes = if answer.classless.is_empty() {
        // A router outside of the address's network is reached all the same: see `set_up`.
        answer
            .routers
            .first()
            .map(|router| (Ipv4Addr::UNSPECIFIED, 0, *router))
            .into_iter()
            .collect()
    } else {
        answer.classless
    };
    let lease = Lease {
        address,
        prefix: answer.prefix.unwrap_or_else(|| of_class(address)),
        server,
        routes,
        dns: answer.dns,
        domain: answer.domain,
        mtu: answer.mtu.filter(|mtu| (576..=65535).contains(mtu)),
        seconds: answer.seconds.filter(|seconds| *seconds != u32::MAX),
    };
    Some((answer.kind?, lease))
}

/// The options that are known.
#[derive(Default)]
struct Answer {
    kind: Option<u8>,
    prefix: Option<u8>,
    server: Option<Ipv4Addr>,
    routers: Vec<Ipv4Addr>,
    classless: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    dns: Vec<Ipv4Addr>,
    domain: Option<String>,
    mtu: Option<u32>,
    seconds: Option<u32>,
}

impl Answer {
    /// Reads options; none if they are cut off.
    fn read(&mut self, mut options: &[u8]) -> Option<()> {
        loop {
            let (kind, rest) = options.split_first()?;
            options = match kind {
                0 => rest,
                255 => return Some(()),
                kind => {
                    let (length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                    self.option(*kind, value);
                    rest
                }
            };
        }
    }

    fn option(&mut self, kind: u8, value: &[u8]) {
        let number = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
        match kind {
            53 => self.kind = value.first().copied(),
            1 => self.prefix = number(value).and_then(prefix),
            3 => self.routers = addresses(value).collect(),
            6 => self.dns = addresses(value).take(MOST).collect(),
            15 => self.domain = domain(value),
            26 => self.mtu = value.try_into().ok().map(|mtu| u16::from_be_bytes(mtu).into()),
            51 => self.seconds = number(value),
            54 => self.server = addresses(value).next(),
            121 => self.classless = classless(value),
            _ => {}
        }
    }
}

fn addresses(value: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets))
}

/// A mask is ones, then zeros.
fn prefix(mask: u32) -> Option<u8> {
    let ones = mask.leading_ones();
    (ones + mask.trailing_zeros() >= 32).then(|| u8::try_from(ones).unwrap_or(32))
}

/// A server that says no mask means the network of the address's class.
fn of_class(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..=127, ..] => 8,
        [128..=191, ..] => 16,
        _ => 24,
    }
}

/// A domain goes into `resolv.conf`: only what a name can have.
fn domain(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!text.is_empty() && text.chars().all(allowed)).then(|| text.to_owned())
}

/// Option 121: the prefix's length, its octets that count, the gateway.
fn classless(mut value: &[u8]) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    let mut routes = Vec::new();
    while let Some((prefix @ 0..=32, rest)) = value.split_first()
        && let Some((network, rest)) = rest.split_at_checked(usize::from(prefix.div_ceil(8)))
        && let Some((gateway, rest)) = rest.split_first_chunk::<4>()
        && routes.len() < MOST
    {
        let mut octets = [0; 4];
        octets.iter_mut().zip(network).for_each(|(to, from)| *to = *from);
        routes.push((Ipv4Addr::from(octets), *prefix, Ipv4Addr::from(*gateway)));
        value = rest;
    }
    routes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    fn answer(options: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; OPTIONS];
        bytes[0] = 2;
        bytes[4..8].copy_from_slice(&7_u32.to_be_bytes());
        bytes[16..20].copy_from_slice(&[10, 0, 2, 15]);
        bytes[28..34].copy_from_slice(&MAC);
        bytes[236..240].copy_from_slice(&MAGIC);
        bytes.extend(options.concat());
        bytes.push(255);
        bytes
    }

    #[test]
    fn leases_are_read() {
        let options: [&[u8]; 8] = [
            &[53, 1, ACK],
            &[54, 4, 10, 0, 2, 2],
            &[1, 4, 255, 255, 255, 0],
            &[3, 4, 10, 0, 2, 2],
            &[6, 8, 10, 0, 2, 3, 8, 8, 8, 8],
            &[15, 7, b'e', b'x', b'.', b'o', b'r', b'g', 0],
            &[51, 4, 0, 0, 14, 16],
            &[26, 2, 5, 220],
        ];
        let (kind, lease) = parse(&answer(&options), 7, MAC).unwrap();
        let expected = Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            server: Ipv4Addr::new(10, 0, 2, 2),
            routes: vec![(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 2, 2))],
            dns: vec![Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(8, 8, 8, 8)],
            domain: Some("ex.org".to_owned()),
            mtu: Some(1500),
            seconds: Some(3600),
        };
        assert_eq!((kind, lease), (ACK, expected));
        // Of another transaction or card, and without a server.
        assert!(parse(&answer(&options), 8, MAC).is_none());
        assert!(parse(&answer(&options), 7, [0; 6]).is_none());
        assert!(parse(&answer(&options[2..]), 7, MAC).is_none());
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let options: [&[u8]; 4] = [
            &[53, 1, ACK],
            &[54, 4, 10, 0, 0, 1],
            &[3, 4, 10, 0, 0, 9],
            &[121, 14, 0, 10, 0, 0, 1, 24, 192, 168, 7, 0, 0, 0, 0, 33],
        ];
        let (_, lease) = parse(&answer(&options), 7, MAC).unwrap();
        let expected = [
            (Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 0, 1)),
            (Ipv4Addr::new(192, 168, 7, 0), 24, Ipv4Addr::UNSPECIFIED),
        ];
        assert_eq!(lease.routes, expected);
        assert_eq!(lease.prefix, 8);
    }

    #[test]
    fn a_domain_cannot_write_lines() {
        assert_eq!(domain(b"a\nnameserver 6.6.6.6"), None);
        assert_eq!(domain(b"a b"), None);
        assert_eq!(domain(&[0xff]), None);
    }

    #[test]
    fn masks_are_contiguous() {
        assert_eq!(prefix(0xffff_ff00), Some(24));
        assert_eq!(prefix(0), Some(0));
        assert_eq!(prefix(u32::MAX), Some(32));
        assert_eq!(prefix(0xff00_ff00), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(bytes: Vec<u8>, options: Vec<u8>) {
            parse(&bytes, 7, MAC);
            parse(&answer(&[&options]), 7, MAC);
        }
    }
}
