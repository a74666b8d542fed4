//! What a request consents to, so that a device in use can be taken: that processes are asked to exit, and that the host
//! loses what its network does over a device. NVIDIA's persistence daemon, which only keeps GPUs initialized, needs no
//! consent.

use std::collections::BTreeSet;

use model::choose::{Want, WantKind};
use model::{Address, Holder, HolderKind};

/// The program that keeps NVIDIA GPUs initialized.
const PERSISTENCE_DAEMON: &str = "nvidia-persistenced";

/// `/proc/PID/comm` truncates names to 15 bytes (`TASK_COMM_LEN`).
const COMM_LENGTH: usize = 15;

/// An option of a request that consents to the end of a use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UseOption {
    /// The request has no such option.
    #[default]
    Unavailable,
    /// The option is not set.
    Off,
    /// The option is set.
    On,
}

/// What a request consents to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// `--evict`: processes that use its devices are asked to exit.
    evict: UseOption,
    /// `--force-network`: the host loses what its network does over devices that the request names.
    network: UseOption,
    /// `--take-display`: the host's desktop and consoles on its cards end.
    display: UseOption,
}

/// The functions that a request takes because it names a device, by address or registered name. Devices that were
/// chosen by kind are not in it.
#[derive(Clone, Debug, Default)]
pub struct Named {
    functions: BTreeSet<Address>,
    /// The owner of the reserved claim that has them, if the request prepares one.
    claim: Option<String>,
}

impl UseOption {
    const fn option(set: bool) -> Self {
        if set { Self::On } else { Self::Off }
    }
}

impl Consent {
    /// Of a request without such options.
    pub const NONE: Self = Self {
        evict: UseOption::Unavailable,
        network: UseOption::Unavailable,
        display: UseOption::Unavailable,
    };

    /// The options of a request that has them.
    pub const fn options(evict: bool, force_network: bool) -> Self {
        let (evict, network) = (UseOption::option(evict), UseOption::option(force_network));
        Self { evict, network, ..Self::NONE }
    }

    /// The same, with the option to take cards from the host's desktop and consoles.
    #[must_use]
    pub const fn with_display(self, take: bool) -> Self {
        Self { display: UseOption::option(take), ..self }
    }

    /// Whether cards are taken from the host's desktop and consoles.
    pub fn takes_display(self) -> bool {
        self.display == UseOption::On
    }

    /// Whether the request goes on in spite of this user.
    pub fn covers(self, holder: &Holder, named: &Named) -> bool {
        self.evicts(holder)
            || self.gives_up_network(holder, named)
            || (self.takes_display() && holder.draws())
    }

    /// Whether the user is asked to exit.
    pub fn evicts(self, holder: &Holder) -> bool {
        is_persistence_daemon(holder) || (self.evict == UseOption::On && can_ask_to_exit(holder))
    }

    /// Whether the host loses this use by its network: only of devices that the request names.
    fn gives_up_network(self, holder: &Holder, named: &Named) -> bool {
        self.network == UseOption::On
            && holder.kind == HolderKind::Network
            && named.functions.contains(&holder.address)
    }

    /// How to consent to the end of this use, if the request can; as the end of a sentence about another remedy.
    pub fn way_out(self, holder: &Holder, named: &Named) -> Option<String> {
        let is_evicted = self.evict == UseOption::Off && can_ask_to_exit(holder);
        match (is_evicted, self.display == UseOption::Off && holder.draws()) {
            // A program that computes or plays has the same nodes open as one that draws.
            (true, true) => {
                return Some(
                    "or use --evict so that Handover asks it to exit; or, if it is of the desktop on the card, --take-display, so \
                     that the sessions end and the display manager is started again afterwards"
                        .into(),
                );
            }
            (false, true) => {
                return Some(
                    "or use --take-display so that Handover ends the sessions on the card, and starts the display manager again \
                     afterwards"
                        .into(),
                );
            }
            (true, false) => return Some("or use --evict so that Handover asks it to exit".into()),
            (false, false) => {}
        }
        if holder.kind != HolderKind::Network || self.network == UseOption::Unavailable {
            return None;
        }
        let address = holder.address;
        let out = match (named.functions.contains(&address), &named.claim) {
            (true, _) if self.network == UseOption::On => return None,
            (true, Some(claim)) => format!("`handover prepare {claim} --force-network`"),
            // The request itself may have no such option: `handover device bind`.
            (true, None) => format!("claim {address} with --force-network"),
            (false, Some(claim)) => format!(
                "`handover release {claim}`, then name the device: claim {address} with --force-network"
            ),
            (false, None) => format!("name the device: claim {address} with --force-network"),
        };
        Some(format!("or, if the host can do without it, {out}"))
    }
}

impl Named {
    /// The functions in `taken` that a want for a named device takes. `taken` has the functions of one device or
    /// partition after the other, in the order of `wants`.
    pub fn of<T: IntoIterator<Item = Address>>(
        wants: &[Want],
        taken: impl IntoIterator<Item = T>,
    ) -> Self {
        let each = wants.iter().flat_map(|want| {
            let count = usize::try_from(want.count).unwrap_or(usize::MAX);
            std::iter::repeat_n(matches!(want.kind, WantKind::Device(_)), count)
        });
        let named = each.zip(taken).filter(|(named, _)| *named);
        let functions = named.flat_map(|(_, functions)| functions).collect();
        Self { functions, claim: None }
    }

    /// The same, of a reserved claim that is to be prepared.
    pub fn in_claim(self, claim: String) -> Self {
        Self { claim: Some(claim), ..self }
    }
}

pub fn is_persistence_daemon(holder: &Holder) -> bool {
    let cut = PERSISTENCE_DAEMON.get(..COMM_LENGTH);
    let program = holder.program.as_deref();
    program.is_some() && (program == Some(PERSISTENCE_DAEMON) || program == cut)
}

/// Only processes can be asked to exit, not mounts, routes or arrays. VMMs are never asked: their machines would stop.
fn can_ask_to_exit(holder: &Holder) -> bool {
    holder.pid.is_some() && holder.started.is_some() && !holder.is_vmm()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(slot: u8) -> Address {
        format!("0000:0{slot}:00.0").parse().unwrap()
    }

    fn user(slot: u8, kind: HolderKind) -> Holder {
        let pid = (kind == HolderKind::Process).then_some(7);
        Holder {
            address: at(slot),
            kind,
            pid,
            started: pid.map(u64::from),
            program: None,
            user: "x".into(),
            by: "eth0".into(),
            mdev: None,
            interface: None,
        }
    }

    #[test]
    fn only_a_named_device_is_taken_from_the_network() {
        let wants: Vec<Want> =
            ["2xnic", "0000:03:00.0"].iter().map(|want| want.parse().unwrap()).collect();
        let named = Named::of(&wants, [[at(1)], [at(2)], [at(3)]]);
        let both = Consent::options(true, true);
        assert!(both.covers(&user(3, HolderKind::Network), &named));
        assert!(!both.covers(&user(2, HolderKind::Network), &named), "chosen by kind");
        let way = both.way_out(&user(2, HolderKind::Network), &named).unwrap();
        assert!(way.contains("claim 0000:02:00.0 with --force-network"), "{way}");
    }

    #[test]
    fn each_option_consents_to_one_thing() {
        let named = Named::of(&["0000:01:00.0".parse().unwrap()], [[at(1)]]);
        let (process, network) = (user(1, HolderKind::Process), user(1, HolderKind::Network));
        let (evict, force) = (Consent::options(true, false), Consent::options(false, true));
        assert!(evict.covers(&process, &named) && !evict.covers(&network, &named));
        assert!(!force.covers(&process, &named) && force.covers(&network, &named));
        assert!(!force.evicts(&network));
        assert!(evict.way_out(&network, &named).unwrap().contains("--force-network"));
        assert!(force.way_out(&process, &named).unwrap().contains("--evict"));
        assert_eq!(Consent::NONE.way_out(&network, &named), None);
        let draws = Holder { by: "/dev/dri/card0".into(), ..process };
        let display = Consent::NONE.with_display(true);
        assert!(
            display.covers(&draws, &named)
                && !display.covers(&user(1, HolderKind::Process), &named)
        );
        assert!(!display.evicts(&draws), "its unit is stopped first");
        let asks = Consent::NONE.with_display(false).way_out(&draws, &named).unwrap();
        assert!(asks.contains("--take-display"), "{asks}");
        for kind in [HolderKind::Mount, HolderKind::Volume, HolderKind::Swap, HolderKind::Kernel] {
            assert!(!Consent::options(true, true).covers(&user(1, kind), &named), "{kind:?}");
        }
    }
}
