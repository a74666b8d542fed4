//! The network cards of an instance on the command line.

use api::{CreateInstance, Instance as Machine, Network, NetworkRequest};
use clap::Args;
use model::{Code, Refusal};

/// The network cards of a new instance.
#[derive(Debug, Args)]
pub struct Networks {
    /// Network card (repeatable): user (by passt, the usual one), bridge=br0, macvtap=eth0, each also with ,mac=...; or none
    #[arg(long = "network", value_name = "MODE[,OPTION...]", value_parser = network)]
    networks: Vec<NetworkRequest>,
    /// Hardware address of the network card, if there is one; one is chosen by default
    #[arg(long)]
    mac: Option<String>,
    /// Port of this host that leads to the guest (repeatable): 2222:22, 0.0.0.0:8080:80, 5353:53/udp
    #[arg(short = 'p', long = "publish", value_name = "[ADDRESS:]PORT:GUEST_PORT")]
    publish: Vec<String>,
}

impl Networks {
    /// Adds the network cards to a request; nothing if nothing is asked for.
    ///
    /// # Errors
    /// `invalid_request` if the options do not fit together.
    pub fn fill(self, request: &mut CreateInstance) -> Result<(), Refusal> {
        let Self { mut networks, mac, publish } = self;
        if networks.is_empty() && (mac.is_some() || !publish.is_empty()) {
            networks.push(NetworkRequest::default());
        }
        if let Some(mac) = mac {
            let [card] = networks.as_mut_slice() else {
                return Err(Refusal::new(
                    Code::InvalidRequest,
                    "`--mac` is for one network card, and there are several",
                    "write it as `--network bridge=br0,mac=52:54:00:12:34:56`",
                ));
            };
            card.mac = Some(mac);
        }
        if !publish.is_empty() {
            let mut cards = networks.iter_mut();
            let card = cards.find(|card| matches!(card.mode.as_deref(), None | Some("user")));
            let card = card.ok_or_else(|| {
                Refusal::new(
                    Code::InvalidRequest,
                    "`--publish` needs a network card in the mode `user`, and there is none",
                    "add `--network user`, or reach the guest by its own address",
                )
            })?;
            card.forwards = Some(publish);
        }
        match networks.len() {
            0 => {}
            1 => request.network = networks.pop(),
            _ => request.networks = Some(networks),
        }
        Ok(())
    }
}

/// Reads a network card: `bridge=br0,mac=52:54:00:12:34:56`.
pub fn network(text: &str) -> Result<NetworkRequest, String> {
    let mut words = text.split(',');
    let (mode, source) = match words.next().unwrap_or_default().split_once('=') {
        Some((mode @ ("bridge" | "macvtap"), source)) if !source.is_empty() => {
            (mode, Some(source.to_owned()))
        }
        None if matches!(text.split(',').next(), Some("user" | "none")) => {
            (text.split(',').next().unwrap_or_default(), None)
        }
        _ => return Err("expected user, none, bridge=NAME or macvtap=INTERFACE".into()),
    };
    let mut card =
        NetworkRequest { mode: Some(mode.to_owned()), source, ..NetworkRequest::default() };
    for word in words {
        match word.split_once('=') {
            Some(("mac", mac)) if card.mac.is_none() && mode != "none" => {
                card.mac = Some(mac.to_owned());
            }
            None if word == "force" && mode == "macvtap" => card.force = Some(true),
            _ => {
                let known = if mode == "macvtap" { "mac=, force" } else { "mac=" };
                return Err(format!("unknown option {word:?} of a network card; use {known}"));
            }
        }
    }
    Ok(card)
}

/// The network cards of an instance, a line each: `user (10.0.2.15, 52:54:00:12:34:56, 127.0.0.1:2222:22/tcp)`.
pub fn lines(machine: &Machine) -> Vec<String> {
    let text = |card: &Network| if card.enabled { line(card) } else { "none".into() };
    cards(machine).iter().map(text).collect()
}

fn line(card: &Network) -> String {
    let Network { mode, source, mac, ip, host_interface, forwards, .. } = card;
    let interface = host_interface.as_ref().map(|name| format!("interface {name}"));
    let details = [ip.clone(), mac.clone(), interface].into_iter().flatten();
    let details: Vec<String> = details.chain(forwards.iter().cloned()).collect();
    let source = source.as_ref().map(|source| format!(" {source}")).unwrap_or_default();
    format!("{mode}{source} ({})", details.join(", "))
}

/// Where an instance's guest is reached, as far as it is known: its own address, or the forwarded ports of a user network,
/// whose addresses lead nowhere outside of it.
pub fn addresses(machine: &Machine) -> Vec<String> {
    let reached = |card: &Network| match card.mode.as_str() {
        "user" => card.forwards.iter().map(|forward| host_side(forward).to_owned()).collect(),
        _ => card.ip.iter().cloned().collect::<Vec<_>>(),
    };
    cards(machine).iter().flat_map(reached).collect()
}

/// The part of `127.0.0.1:2222:22/tcp` that is this host's: `127.0.0.1:2222`.
fn host_side(forward: &str) -> &str {
    forward.rsplit_once(':').map_or(forward, |(host, _)| host)
}

/// The network cards of an instance; one that is not enabled if there is none.
pub fn cards(machine: &Machine) -> &[Network] {
    match machine.networks.as_slice() {
        [] => std::slice::from_ref(&machine.network),
        several => several,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(
        networks: &[&str],
        mac: Option<&str>,
        publish: &[&str],
    ) -> Result<CreateInstance, Refusal> {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let networks = networks.iter().map(|text| network(text).unwrap()).collect();
        let mac = mac.map(str::to_owned);
        let mut request = CreateInstance::default();
        Networks { networks, mac, publish: own(publish) }.fill(&mut request)?;
        Ok(request)
    }

    #[test]
    fn a_card_has_a_mode_and_options() {
        let card = network("bridge=br0,mac=52:54:00:12:34:56").unwrap();
        assert_eq!((card.mode.as_deref(), card.source.as_deref()), (Some("bridge"), Some("br0")));
        assert_eq!(card.mac.as_deref(), Some("52:54:00:12:34:56"));
        assert_eq!(network("macvtap=eth0,force").unwrap().force, Some(true));
        assert_eq!(network("user").unwrap().mode.as_deref(), Some("user"));
        for wrong in [
            "",
            "nat",
            "bridge",
            "bridge=",
            "user=br0",
            "bridge=br0,force",
            "none,mac=a",
            "user,mac",
        ] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_guest_of_a_user_network_is_reached_by_its_forwarded_ports() {
        assert_eq!(host_side("127.0.0.1:2222:22/tcp"), "127.0.0.1:2222");
        assert_eq!(host_side("[::1]:5353:53/udp"), "[::1]:5353");
    }

    #[test]
    fn options_without_a_card_are_for_a_user_network() {
        assert_eq!(filled(&[], None, &[]).unwrap(), CreateInstance::default());
        let network = filled(&[], Some("52:54:00:12:34:56"), &["80:80"]).unwrap().network.unwrap();
        assert_eq!(network.mode, None);
        assert_eq!(network.forwards.unwrap(), ["80:80"]);
        assert!(filled(&["bridge=br0"], None, &["80:80"]).is_err());
        let two = filled(&["bridge=br0", "user"], None, &["80:80"]).unwrap();
        assert!(two.network.is_none());
        assert_eq!(two.networks.unwrap()[1].forwards.as_ref().unwrap(), &["80:80"]);
        assert!(filled(&["bridge=br0", "user"], Some("52:54:00:12:34:56"), &[]).is_err());
    }
}
