//! Sets all cards up, and keeps their leases.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_protocol::{Addressing, Card, GuestConfig};
use serde::{Deserialize, Serialize};

use super::dhcp::{self, Lease};
use super::interfaces::{self, Interface};
use super::rtnetlink::{add_address, add_route, remove_address, switch_on};
use crate::{NAME, console, path_of};

/// The role of the process that renews leases.
pub const LEASES: &str = "leases";

/// How long a card or a DHCP server may take.
const WITHIN: Duration = Duration::from_secs(30);
/// The loopback interface is always the first.
const LOOPBACK: u32 = 1;
/// No lease is renewed more often.
const SHORTEST: Duration = Duration::from_secs(30);

/// A lease and its card.
#[derive(Clone, Serialize, Deserialize)]
struct Leased {
    interface: Interface,
    hostname: String,
    lease: Lease,
}

/// What the name service should ask.
#[derive(Default)]
pub struct Names {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// The domain.
    pub domain: Option<String>,
}

/// Sets up all cards at once, and starts a process that renews their leases.
pub fn set_up(config: &GuestConfig) -> Names {
    if let Err(error) = switch_on(LOOPBACK, None) {
        console::say(&format!("cannot switch the loopback interface on: {error}"));
    }
    let until = Instant::now() + WITHIN;
    let leased: Vec<Leased> = std::thread::scope(|scope| {
        let cards: Vec<_> = config
            .cards
            .iter()
            .map(|card| scope.spawn(move || set_up_card(card, &config.hostname, until)))
            .collect();
        let outcomes = config.cards.iter().zip(cards).map(|(card, thread)| {
            let outcome = thread.join().unwrap_or_else(|_| Err("it failed".to_owned()));
            outcome.unwrap_or_else(|error| {
                console::say(&format!("the network card {} does not work: {error}", card.mac));
                None
            })
        });
        outcomes.flatten().collect()
    });
    let mut names = Names { servers: config.dns.clone(), domain: None };
    for leased in &leased {
        if config.dns.is_empty() {
            names.servers.extend(leased.lease.dns.iter().copied().map(IpAddr::V4));
        }
        names.domain = names.domain.or_else(|| leased.lease.domain.clone());
    }
    if leased.iter().any(|leased| leased.lease.seconds.is_some())
        && let Err(error) = start_keeper(&leased)
    {
        console::say(&format!("the machine's DHCP leases will not be renewed: {error}"));
    }
    names
}

fn set_up_card(card: &Card, hostname: &str, until: Instant) -> Result<Option<Leased>, String> {
    let mac = interfaces::parse_mac(&card.mac).ok_or("its hardware address is none")?;
    let interface = interfaces::wait_for(mac, until)
        .ok_or("the machine has no such card, or the kernel has no driver for it")?;
    let failed = |what: &'static str| {
        let name = interface.name.clone();
        move |error: io::Error| format!("cannot {what} of {name}: {error}")
    };
    switch_on(interface.index, None).map_err(failed("change the state"))?;
    match &card.addressing {
        Addressing::Unconfigured => Ok(None),
        Addressing::Static { addresses, gateways } => {
            for text in addresses {
                let (address, prefix) = parse_address(text)
                    .ok_or_else(|| format!("{text:?} is no address with a prefix"))?;
                add_address(interface.index, address, prefix).map_err(failed("set the address"))?;
            }
            for gateway in gateways {
                let all = match gateway {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                route(interface.index, (all, 0), *gateway).map_err(failed("set the route"))?;
            }
            Ok(None)
        }
        Addressing::Dhcp => {
            let lease =
                dhcp::obtain(&interface, hostname, until).map_err(failed("get the address"))?;
            take(&interface, &lease).map_err(failed("set the address"))?;
            Ok(Some(Leased { interface, hostname: hostname.to_owned(), lease }))
        }
    }
}

/// An address like `10.0.0.5/24`.
fn parse_address(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= longest).then_some((address, prefix))
}

/// Gives a card what was leased.
fn take(interface: &Interface, lease: &Lease) -> io::Result<()> {
    switch_on(interface.index, lease.mtu)?;
    add_address(interface.index, lease.address.into(), lease.prefix)?;
    for (network, prefix, gateway) in &lease.routes {
        let network = (IpAddr::V4(*network), *prefix);
        if gateway.is_unspecified() {
            add_route(interface.index, network, None)?;
        } else {
            route(interface.index, network, IpAddr::V4(*gateway))?;
        }
    }
    Ok(())
}

/// A route by a gateway. One outside of the card's networks gets a route of its own first.
fn route(index: u32, network: (IpAddr, u8), gateway: IpAddr) -> io::Result<()> {
    if add_route(index, network, Some(gateway)).is_ok() {
        return Ok(());
    }
    let whole = if gateway.is_ipv4() { 32 } else { 128 };
    add_route(index, (gateway, whole), None)?;
    add_route(index, network, Some(gateway))
}

fn start_keeper(leased: &[Leased]) -> io::Result<()> {
    let mut keeper = Command::new(path_of::EXECUTABLE)
        .arg0(NAME)
        .arg(LEASES)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let to = keeper.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut to = File::from(std::os::fd::OwnedFd::from(to));
    to.write_all(&serde_json::to_vec(leased)?)
}

/// Renews the leases on standard input until the machine ends.
pub fn keep_leases() -> ExitCode {
    let leased: Vec<Leased> = match serde_json::from_reader(io::stdin()) {
        Ok(leased) => leased,
        Err(_) => return ExitCode::FAILURE,
    };
    std::thread::scope(|scope| {
        for leased in leased {
            scope.spawn(move || keep(leased));
        }
    });
    ExitCode::SUCCESS
}

/// At half of its time a lease is renewed, then in shorter and shorter intervals; when it is over, a new one is asked
/// for. The address stays in use until then: a machine that cannot reach its server is better off with it.
fn keep(mut leased: Leased) {
    let mut since = Instant::now();
    while let Some(seconds) = leased.lease.seconds {
        let whole = Duration::from_secs(u64::from(seconds));
        let left = whole.saturating_sub(since.elapsed());
        sleep((left / 2).max(SHORTEST));
        let asked = Instant::now();
        let renewed = dhcp::renew(&leased.interface, &leased.hostname, &leased.lease);
        let over = since.elapsed() >= whole;
        let new = match renewed {
            Ok(None) if !over => continue,
            Ok(Some(lease)) => lease,
            Ok(None) | Err(_) => {
                let until = Instant::now() + WITHIN;
                match dhcp::obtain(&leased.interface, &leased.hostname, until) {
                    Ok(lease) => lease,
                    Err(_) => continue,
                }
            }
        };
        let old = &leased.lease;
        if new.address != old.address {
            let _ = remove_address(leased.interface.index, old.address.into(), old.prefix);
            console::say(&format!("{} has the new address {}", leased.interface.name, new.address));
        }
        if let Err(error) = take(&leased.interface, &new) {
            console::say(&format!(
                "cannot use the renewed lease of {}: {error}",
                leased.interface.name
            ));
        }
        (leased.lease, since) = (new, asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_prefix() {
        assert_eq!(parse_address("10.0.0.5/24"), Some(([10, 0, 0, 5].into(), 24)));
        assert_eq!(parse_address("fd00::1/128").map(|(_, prefix)| prefix), Some(128));
        for wrong in ["10.0.0.5", "10.0.0.5/33", "fd00::1/129", "x/1", "1.2.3.4/-1", ""] {
            assert_eq!(parse_address(wrong), None, "{wrong}");
        }
    }
}
