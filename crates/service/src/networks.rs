//! The network cards of instances.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::NetworkRequest;
use engine::guest_agent::GuestInterface;
use engine::{CardWish, Instance, NetworkWish, SSH_PORTS};
use model::{CardLink, Forward, Mac, MachineOptions, NetworkCard, Refusal};
use uuid::Uuid;

use crate::refusals::invalid;

/// The most forwarded ports of a machine.
const MOST_FORWARDS: usize = 1024;

/// The cards that the fields `network` and `networks` ask for.
pub fn wish(
    one: Option<NetworkRequest>,
    several: Option<Vec<NetworkRequest>>,
) -> Result<NetworkWish, Refusal> {
    match (one, several) {
        (Some(_), Some(_)) => Err(invalid(
            "`network` and `networks` are both given",
            "`network` is for one card, `networks` for all cards: leave one out",
        )),
        (Some(one), None) => only(one),
        (None, Some(several)) => {
            let cards = several.into_iter().map(|one| match only(one)? {
                NetworkWish::Usual => Ok(CardWish::default()),
                NetworkWish::Cards(mut cards) => cards.pop().ok_or_else(|| {
                    invalid("`networks` has a card that is off", "leave that card out")
                }),
            });
            cards.collect::<Result<_, _>>().map(NetworkWish::Cards)
        }
        (None, None) => Ok(NetworkWish::Usual),
    }
}

/// What one object asks for.
fn only(wanted: NetworkRequest) -> Result<NetworkWish, Refusal> {
    let NetworkRequest { enabled, mode, source, force, mac, forwards } = wanted;
    let forwards = forwards.unwrap_or_default();
    let is_plain = mac.is_none() && forwards.is_empty() && source.is_none() && force.is_none();
    match (mode.as_deref(), enabled) {
        (None, None) if is_plain => return Ok(NetworkWish::Usual),
        (Some("none"), Some(true)) => {
            return Err(invalid(
                "`network` is enabled and has the mode `none`",
                "set `enabled` to false, or leave `mode` out",
            ));
        }
        (_, Some(false)) | (Some("none"), None) => {
            if is_plain {
                return Ok(NetworkWish::OFF);
            }
            return Err(invalid(
                "`network` is off, and has other fields",
                "leave `mac`, `forwards`, `source` and `force` out, or use another mode",
            ));
        }
        _ => {}
    }
    let link = link(mode.as_deref(), source, force.unwrap_or_default())?;
    let mac = mac.map(|text| text.parse::<Mac>()).transpose();
    let mac = mac.map_err(|error| invalid(error.to_string(), "correct `mac`, or leave it out"))?;
    Ok(NetworkWish::Cards(vec![CardWish { link, mac, forwards: ports(&forwards)? }]))
}

fn link(mode: Option<&str>, source: Option<String>, force: bool) -> Result<CardLink, Refusal> {
    let link = match (mode.unwrap_or("user"), source) {
        ("user", None) => CardLink::User,
        ("bridge", Some(bridge)) => CardLink::Bridge { bridge },
        ("macvtap", Some(interface)) => return Ok(CardLink::Macvtap { interface, force }),
        ("user", Some(source)) => {
            return Err(invalid(
                format!("a card in the mode `user` has no `source`, and {source:?} is given"),
                "use the mode `bridge` or `macvtap`, or leave `source` out",
            ));
        }
        (mode @ ("bridge" | "macvtap"), None) => {
            return Err(invalid(
                format!("a card in the mode `{mode}` needs a `source`"),
                "give the name of a bridge or an interface of the host; `ip link` lists them",
            ));
        }
        (other, _) => {
            return Err(invalid(
                format!("unknown network mode {other:?}"),
                "use `user`, `bridge`, `macvtap` or `none`",
            ));
        }
    };
    if force {
        return Err(invalid("`force` is only for the mode `macvtap`", "leave it out"));
    }
    Ok(link)
}

fn ports(forwards: &[String]) -> Result<Vec<Forward>, Refusal> {
    if forwards.len() > MOST_FORWARDS {
        return Err(invalid(
            format!("{} forwarded ports, more than {MOST_FORWARDS}", forwards.len()),
            "forward fewer, or hand a NIC over",
        ));
    }
    let forwards = forwards.iter().map(|text| text.parse::<Forward>()).collect::<Result<_, _>>();
    forwards.map_err(|error| {
        invalid(error.to_string(), "write it as [ADDRESS:]HOST_PORT:GUEST_PORT[/tcp|/udp]")
    })
}

/// The network cards of a machine. `neighbors` are the addresses that the host knows.
pub fn shown(
    machine: Uuid,
    options: &MachineOptions,
    neighbors: &BTreeMap<Mac, IpAddr>,
) -> Vec<api::Network> {
    let cards = options.cards.iter().enumerate();
    let shown = |(number, card): (usize, &NetworkCard)| {
        let is_user = card.link.is_user();
        let known = neighbors.get(&card.mac).map(ToString::to_string);
        let interface = (!is_user).then(|| card.host_interface(machine, number));
        api::Network {
            enabled: true,
            mode: card.link.mode().into(),
            source: card.link.source().map(str::to_owned),
            mac: Some(card.mac.to_string()),
            ip: if is_user { Some(NetworkCard::GUEST.to_string()) } else { known },
            host_interface: interface,
            forwards: card.forwards.iter().map(ToString::to_string).collect(),
        }
    };
    cards.map(shown).collect()
}

/// Whether a card is on a network of which this host may not know the guest's address.
pub fn has_unknown_address(card: &api::Network) -> bool {
    card.enabled && card.mode != CardLink::User.mode() && card.ip.is_none()
}

/// Adds the address that the guest's agent tells: of several, one of IPv4. An address of this host itself leads to this host, whatever
/// a guest says.
pub fn complete(card: &mut api::Network, told: &[GuestInterface], own: &[IpAddr]) {
    if !has_unknown_address(card) {
        return;
    }
    let is_it = |interface: &&GuestInterface| {
        let mac = interface.mac.as_ref().and_then(|text| text.parse::<Mac>().ok());
        mac.is_some() && mac == card.mac.as_ref().and_then(|text| text.parse().ok())
    };
    let found = told.iter().find(is_it);
    let mut addresses = found.map(|one| one.addresses.clone()).unwrap_or_default();
    addresses.retain(|address| !own.contains(address));
    addresses.sort_by_key(IpAddr::is_ipv6);
    card.ip = addresses.first().map(ToString::to_string);
}

/// No network card.
pub fn none() -> api::Network {
    api::Network { mode: "none".into(), ..api::Network::default() }
}

/// The requests for the cards of an instance.
pub fn requests(instance: &Instance) -> Vec<NetworkRequest> {
    let has_keys = instance.options.seed.as_ref().is_some_and(|seed| seed.host_key.is_some());
    // A port that was chosen for SSH is chosen again.
    let is_chosen =
        |forward: &&Forward| has_keys && forward.is_ssh() && SSH_PORTS.contains(&forward.host_port);
    let request = |card: &NetworkCard| {
        let forwards = card.forwards.iter().filter(|forward| !is_chosen(forward));
        let forwards: Vec<String> = forwards.map(Forward::to_string).collect();
        let force = matches!(card.link, CardLink::Macvtap { force: true, .. });
        NetworkRequest {
            enabled: None,
            mode: Some(card.link.mode().to_owned()),
            source: card.link.source().map(str::to_owned),
            force: force.then_some(true),
            mac: Some(card.mac.to_string()),
            forwards: (!forwards.is_empty()).then_some(forwards),
        }
    };
    instance.options.cards.iter().map(request).collect()
}

/// The request for no card.
pub fn no_card() -> NetworkRequest {
    NetworkRequest { mode: Some("none".to_owned()), ..NetworkRequest::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> NetworkRequest {
        serde_json::from_str(json).unwrap()
    }

    fn one(json: &str) -> Result<NetworkWish, Refusal> {
        wish(Some(request(json)), None)
    }

    fn links(wish: &NetworkWish) -> Vec<CardLink> {
        match wish {
            NetworkWish::Usual => panic!("nothing was asked for"),
            NetworkWish::Cards(cards) => cards.iter().map(|card| card.link.clone()).collect(),
        }
    }

    #[test]
    fn an_object_asks_for_one_card_or_none() {
        assert_eq!(one("{}").unwrap(), NetworkWish::Usual);
        assert_eq!(wish(None, None).unwrap(), NetworkWish::Usual);
        assert_eq!(one(r#"{"enabled": false}"#).unwrap(), NetworkWish::OFF);
        assert_eq!(one(r#"{"mode": "none"}"#).unwrap(), NetworkWish::OFF);
        assert_eq!(links(&one(r#"{"enabled": true}"#).unwrap()), [CardLink::User]);
        let bridge = one(r#"{"mode": "bridge", "source": "br0"}"#).unwrap();
        assert_eq!(links(&bridge), [CardLink::Bridge { bridge: "br0".into() }]);
        let macvtap = one(r#"{"mode": "macvtap", "source": "eth0", "force": true}"#).unwrap();
        let link = CardLink::Macvtap { interface: "eth0".into(), force: true };
        assert_eq!(links(&macvtap), [link]);
        for wrong in [
            r#"{"mode": "bridge"}"#,
            r#"{"mode": "user", "source": "br0"}"#,
            r#"{"mode": "bridge", "source": "br0", "force": true}"#,
            r#"{"mode": "nat"}"#,
            r#"{"mode": "none", "enabled": true}"#,
            r#"{"mode": "none", "source": "br0"}"#,
            r#"{"enabled": false, "mac": "52:54:00:12:34:56"}"#,
            r#"{"mac": "52"}"#,
            r#"{"forwards": ["22"]}"#,
        ] {
            assert!(one(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_agent_tells_the_address_of_its_card() {
        let mac = "52:54:00:12:34:56";
        let told = |text: &str, addresses: &[&str]| GuestInterface {
            mac: Some(text.to_uppercase()),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        };
        // The guest's docker0 has the address of the host's, and it claims the host's own for its card.
        let own: [IpAddr; 2] = ["172.17.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let told = [
            told("02:42:0a:00:00:01", &["172.17.0.1"]),
            told("52:54:00:12:34:57", &["10.0.0.9"]),
            told(mac, &["10.0.0.1", "2001:db8::5", "10.0.0.5"]),
        ];
        let card = |mode: &str, ip: Option<&str>| {
            let mut card = api::Network {
                enabled: true,
                mode: mode.into(),
                mac: Some(mac.into()),
                ip: ip.map(str::to_owned),
                ..api::Network::default()
            };
            complete(&mut card, &told, &own);
            card.ip
        };
        assert_eq!(card("bridge", None).as_deref(), Some("10.0.0.5"));
        assert_eq!(card("macvtap", Some("10.0.0.7")).as_deref(), Some("10.0.0.7"));
        assert_eq!(card("user", None), None);
    }

    #[test]
    fn a_list_asks_for_all_cards() {
        let several = vec![request("{}"), request(r#"{"mode": "bridge", "source": "br0"}"#)];
        let links = links(&wish(None, Some(several)).unwrap());
        assert_eq!(links, [CardLink::User, CardLink::Bridge { bridge: "br0".into() }]);
        assert_eq!(wish(None, Some(Vec::new())).unwrap(), NetworkWish::OFF);
        assert!(wish(None, Some(vec![no_card()])).is_err());
        assert!(wish(Some(request("{}")), Some(Vec::new())).is_err());
    }
}
