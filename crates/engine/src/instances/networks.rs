//! The network cards of a machine: what is asked for, hardware addresses, forwarded ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use model::{
    CardLink, Code, Forward, LaunchError, Mac, MachineOptions, NetworkCard, NewPart, Protocol,
    Refusal, check_interface_name,
};
use uuid::Uuid;

use super::parts::forget_part;
use super::pause::runs;
use super::{Instances, is_stopped, wrong_state};
use crate::journal::Turn;
use crate::lock::lock;
use crate::refusals;
use crate::store::{Durability, StoredInstance};
use crate::{CardWish, Instance, NetworkWish};

/// The ports of the host from which one is chosen for SSH.
pub const SSH_PORTS: std::ops::Range<u16> = 22_000..23_000;

/// The guest's port for SSH.
const SSH: u16 = 22;

/// Stands for a hardware address that is not chosen yet.
pub(super) const UNCHOSEN: Mac = Mac([0; 6]);

impl Instances {
    /// The cards that are asked for. A card may have no hardware address yet (all zeros), and no port for SSH.
    pub(super) fn cards(
        &self,
        hypervisor: &str,
        network: NetworkWish,
        wants_ssh: bool,
    ) -> Result<Vec<NetworkCard>, Refusal> {
        match network {
            NetworkWish::Cards(wishes) => {
                expect_possible(&wishes)?;
                wishes.into_iter().map(card).collect()
            }
            NetworkWish::Usual if wants_ssh || self.why_no_network(hypervisor).is_none() => {
                Ok(vec![usual()])
            }
            NetworkWish::Usual => Ok(Vec::new()),
        }
    }

    /// Whether this host can give a machine a user network.
    #[must_use]
    pub fn has_network(&self) -> bool {
        self.why_no_network(self.default_launcher()).is_none()
    }

    /// Why this host cannot give a machine a user network, if it cannot.
    pub(super) fn why_no_network(&self, hypervisor: &str) -> Option<String> {
        let options = MachineOptions { cards: vec![usual()], ..MachineOptions::default() };
        let checked = self.launcher(hypervisor).ok()?.check(&options);
        match checked.err()? {
            LaunchError::Unavailable { reason, remedy } => Some(format!("{reason} ({remedy})")),
            error => Some(error.to_string()),
        }
    }

    /// Gives an instance one more network card. A running machine gets it at once, another one at its next start.
    ///
    /// # Errors
    /// Those of cards in a creation; `invalid_state` if it runs and the card is on a user network; `insufficient_resources` if a
    /// running machine has no port for it; `step_failed` if the machine does not take it. Changes are rolled back then.
    pub fn attach_card(&self, key: &str, wish: CardWish) -> Result<Instance, Refusal> {
        let (mut row, _turn) = self.open_to_cards(key)?;
        let name = &row.instance.name;
        let cards = &row.instance.options.cards;
        let there = cards.iter().map(|card| CardWish {
            link: card.link.clone(),
            mac: Some(card.mac),
            forwards: card.forwards.clone(),
        });
        expect_possible(&there.chain([wish.clone()]).collect::<Vec<_>>())?;
        let mut new = card(wish)?;
        let is_running = runs(&row.instance);
        if is_running && new.link.is_user() {
            return Err(Refusal::new(
                Code::InvalidState,
                format!(
                    "{name:?} runs, and passt, which serves a card in the mode `user`, starts only with its machine"
                ),
                format!(
                    "use the mode `bridge` or `macvtap`, or stop the instance first: `handover instance stop {name}`"
                ),
            ));
        }
        let only = MachineOptions { cards: vec![new.clone()], ..MachineOptions::default() };
        let launcher = self.launcher(&row.instance.hypervisor)?;
        launcher.check(&only).map_err(|error| refusals::launch_failed(&error))?;
        if is_running {
            new.port = Some(self.port_for_part(&row)?);
        }
        // Before those that can leave: its place names its interface.
        let place = cards.iter().position(|card| card.port.is_some() && !is_running);
        let place = place.unwrap_or(cards.len());
        let allocation = lock(&self.journal.allocation);
        new.mac = self.free_or_own_mac(&row.instance, new.mac)?;
        row.instance.options.cards.insert(place, new.clone());
        if is_running {
            let operation = self.open_plug(&mut row, &new.key())?;
            drop(allocation);
            return self.plug_part(&operation, row, &new.key(), NewPart::Card(new));
        }
        self.reserve_network(&mut row.instance)?;
        self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        self.journal.notify();
        Ok(row.instance)
    }

    /// Takes a network card from an instance, by its hardware address. A running guest is asked to let go of it.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it runs, unless the card was plugged into the running machine; `guest_keeps_device` if the
    /// guest does not let go of it within `patience`.
    pub fn detach_card(
        &self,
        key: &str,
        mac: Mac,
        patience: Duration,
    ) -> Result<Instance, Refusal> {
        let (mut row, _turn) = self.open_to_cards(key)?;
        let name = row.instance.name.clone();
        let cards = &row.instance.options.cards;
        let Some(card) = cards.iter().find(|card| card.mac == mac) else {
            return Err(Refusal::new(
                Code::NotFound,
                format!("the instance {name:?} has no network card {mac}"),
                format!("`handover instance show {name}` shows its network cards"),
            ));
        };
        let key = card.key();
        match (runs(&row.instance), card.port.is_some()) {
            (true, true) => return self.unplug_part(row, &key, patience),
            (true, false) => {
                let stop = format!(
                    "stop it first: `handover instance stop {name}`; a running machine loses only cards that it got while it ran"
                );
                return Err(wrong_state(&row, "taken this network card", stop));
            }
            (false, _) => {}
        }
        forget_part(&mut row.instance.options, &key);
        self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        self.journal.notify();
        Ok(row.instance)
    }

    /// An instance whose cards can be changed now, with its turn.
    fn open_to_cards(&self, key: &str) -> Result<(StoredInstance, Turn<'_>), Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let turn = self.journal.turn_of(id)?;
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        if !runs(&row.instance) && !is_stopped(&row) {
            let show = format!("`handover instance show {}` shows its state", row.instance.name);
            return Err(wrong_state(&row, "given or taken a network card", show));
        }
        self.settle_devices(&mut row)?;
        Ok((row, turn))
    }

    /// This hardware address if no other card has it, or one that is chosen. Call it under the allocation lock.
    fn free_or_own_mac(&self, instance: &Instance, wanted: Mac) -> Result<Mac, Refusal> {
        let others = self.store.read(StoredInstance::all)?;
        let others = others.iter().filter(|other| other.instance.id != instance.id);
        let cards = others.flat_map(|other| &other.instance.options.cards);
        let taken = cards.chain(&instance.options.cards).map(|card| card.mac).collect::<Vec<_>>();
        match wanted {
            UNCHOSEN => Ok(free_mac(&taken)),
            mac if taken.contains(&mac) => Err(mac_taken(mac)),
            mac => Ok(mac),
        }
    }

    /// Chooses hardware addresses and a port for SSH, and checks that no other instance has those that were asked for. Call
    /// it under the allocation lock.
    pub(super) fn reserve_network(&self, instance: &mut Instance) -> Result<(), Refusal> {
        if instance.options.cards.is_empty() {
            return Ok(());
        }
        let mut others = self.store.read(StoredInstance::all)?;
        others.retain(|other| other.instance.id != instance.id);
        let cards = || others.iter().flat_map(|other| &other.instance.options.cards);
        let mut macs: Vec<Mac> = cards().map(|card| card.mac).collect();
        let mut taken: Vec<Forward> = cards().flat_map(|card| card.forwards.clone()).collect();
        let screens = others.iter().filter_map(|other| other.instance.options.screen());
        taken.extend(screens.chain(instance.options.screen()).map(listened));
        let wants_ssh = instance.options.seed.as_ref().is_some_and(|seed| seed.host_key.is_some());
        let launcher = self.launcher(&instance.hypervisor)?;
        for card in &mut instance.options.cards {
            if card.mac == UNCHOSEN {
                card.mac = free_mac(&macs);
            } else if macs.contains(&card.mac) {
                return Err(mac_taken(card.mac));
            }
            macs.push(card.mac);
            if !card.link.is_user() {
                continue;
            }
            expect_free(card, &taken)?;
            let free = launcher.expect_free_ports(&card.forwards);
            free.map_err(|error| refusals::launch_failed(&error))?;
            if wants_ssh && !card.forwards.iter().any(Forward::is_ssh) {
                let is_free = |forward: &Forward| {
                    !taken.iter().chain(&card.forwards).any(|other| other.collides(forward))
                        && launcher.expect_free_ports(&[*forward]).is_ok()
                };
                let free = SSH_PORTS.map(ssh).find(is_free).ok_or_else(no_ssh_port)?;
                card.forwards.push(free);
            }
        }
        Ok(())
    }
}

/// A card on a user network, of which nothing is chosen yet.
const fn usual() -> NetworkCard {
    NetworkCard { mac: UNCHOSEN, link: CardLink::User, forwards: Vec::new(), port: None }
}

fn card(wish: CardWish) -> Result<NetworkCard, Refusal> {
    let CardWish { link, mac, forwards } = wish;
    link.source().map_or(Ok(()), check_interface_name)?;
    Ok(NetworkCard { mac: mac.map_or(Ok(UNCHOSEN), usable)?, link, forwards, port: None })
}

/// Refuses what no machine can have.
fn expect_possible(wishes: &[CardWish]) -> Result<(), Refusal> {
    let refused = |message: String, remedy: &str| {
        Err(Refusal::new(Code::InvalidRequest, message, remedy.to_owned()))
    };
    if wishes.len() > NetworkCard::MOST {
        return refused(
            format!("{} network cards, more than {}", wishes.len(), NetworkCard::MOST),
            "ask for fewer, or hand NICs over",
        );
    }
    if wishes.iter().filter(|wish| wish.link.is_user()).count() > 1 {
        return refused(
            "two network cards on a user network, where both would have one address".into(),
            "ask for one, and connect the others to bridges or interfaces",
        );
    }
    match wishes.iter().find(|wish| !wish.link.is_user() && !wish.forwards.is_empty()) {
        None => Ok(()),
        Some(wish) => refused(
            format!("a card in the mode `{}` cannot have forwarded ports", wish.link.mode()),
            "reach the guest by its own address, or give the ports to a card in the mode `user`",
        ),
    }
}

/// Checks that the ports of a card are not taken, by itself or another one.
fn expect_free(card: &NetworkCard, taken: &[Forward]) -> Result<(), Refusal> {
    for (position, forward) in card.forwards.iter().enumerate() {
        let earlier = card.forwards.iter().take(position);
        // passt listens on a port on one address, or on all.
        let mut earlier = earlier.filter(|other| other.protocol == forward.protocol);
        let twice = earlier.any(|other| other.host_port == forward.host_port);
        if twice || taken.iter().any(|other| other.collides(forward)) {
            return Err(port_taken(forward));
        }
    }
    Ok(())
}

/// The port at which a screen is, like a forwarded one.
fn listened(at: SocketAddr) -> Forward {
    let (address, host_port) = (at.ip(), at.port());
    Forward { protocol: Protocol::Tcp, address, host_port, guest_port: host_port }
}

fn ssh(host_port: u16) -> Forward {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Forward { protocol: Protocol::Tcp, address, host_port, guest_port: SSH }
}

/// A free address in the range that QEMU's users know (52:54:00).
fn free_mac(taken: &[Mac]) -> Mac {
    loop {
        let [a, b, c, ..] = Uuid::new_v4().into_bytes();
        let mac = Mac([0x52, 0x54, 0, a, b, c]);
        if !taken.contains(&mac) {
            return mac;
        }
    }
}

/// Refuses what no single card can have.
fn usable(mac: Mac) -> Result<Mac, Refusal> {
    if mac == UNCHOSEN || mac.0[0] & 1 == 1 {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("a network card cannot have the hardware address {mac}"),
            "use one whose first byte is even, such as 52:54:00:12:34:56",
        ));
    }
    Ok(mac)
}

fn mac_taken(mac: Mac) -> Refusal {
    Refusal::new(
        Code::Conflict,
        format!("another network card has the hardware address {mac}"),
        "choose another one, or leave it out",
    )
}

fn port_taken(forward: &Forward) -> Refusal {
    Refusal::new(
        Code::PortInUse,
        format!("the port of {forward} is taken already, by this or another instance"),
        "choose another port of the host; `handover instance show NAME` shows those of an instance",
    )
}

fn no_ssh_port() -> Refusal {
    let (first, last) = (SSH_PORTS.start, SSH_PORTS.end - 1);
    Refusal::new(
        Code::PortInUse,
        format!("no port from {first} to {last} is free for SSH"),
        "choose one with `--publish PORT:22`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_several_cards_is_refused() {
        let mac = |text: &str| text.parse::<Mac>().unwrap();
        assert!(usable(mac("52:54:00:12:34:56")).is_ok());
        for wrong in ["00:00:00:00:00:00", "53:54:00:12:34:56", "ff:ff:ff:ff:ff:ff"] {
            assert!(usable(mac(wrong)).is_err(), "{wrong}");
        }
        let chosen = free_mac(&[]);
        assert_eq!(chosen.0[..3], [0x52, 0x54, 0]);
        assert!(usable(chosen).is_ok());
    }

    #[test]
    fn only_one_card_is_on_a_user_network() {
        let user = CardWish { link: CardLink::User, mac: None, forwards: Vec::new() };
        let bridge = CardLink::Bridge { bridge: "br0".into() };
        let bridge = CardWish { link: bridge, ..user.clone() };
        let with_port = CardWish { forwards: vec!["80:80".parse().unwrap()], ..bridge.clone() };
        assert!(expect_possible(&[user.clone(), bridge.clone(), bridge.clone()]).is_ok());
        assert!(expect_possible(&[user.clone(), user]).is_err());
        assert!(expect_possible(&[with_port]).is_err());
        assert!(expect_possible(&vec![bridge; 9]).is_err());
    }
}
