//! Connects the network cards of machines to bridges and interfaces of the host, by tap and macvtap interfaces.

mod check;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use model::{CardLink, CardLinks, LinkError, Mac, NetworkUsage, OpenCard};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::holders::network::IFF_UP;
use crate::problem;
use crate::root::Root;
use crate::rtnetlink::{Refused, interfaces};
use crate::sys::tun;

/// The directory of interfaces.
const NET: &str = "sys/class/net";

/// How long a host without devtmpfs may take to make the node of a new interface, and the pause between looks.
const NODE: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The interfaces of the running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelLinks;

impl CardLinks for KernelLinks {
    fn check(&self, root: &Path, link: &CardLink) -> Result<(), LinkError> {
        match link {
            CardLink::User => Ok(()),
            CardLink::Bridge { bridge } => check::bridge(root, bridge),
            CardLink::Macvtap { interface, force } => check::macvtap(root, interface, *force),
        }
    }

    fn open(
        &self,
        root: &Path,
        name: &str,
        link: &CardLink,
        mac: Mac,
    ) -> Result<OpenCard, LinkError> {
        let at = opened(root)?;
        let card = match link {
            CardLink::User => {
                let reason = "passt connects this card".to_owned();
                return Err(LinkError::Refused {
                    action: "connect",
                    interface: name.into(),
                    reason,
                });
            }
            CardLink::Bridge { bridge } => tap(&at, name, bridge, mac)?,
            CardLink::Macvtap { interface, .. } => {
                make_macvtap(&at, name, interface, mac)?;
                open_macvtap(&at, name).inspect_err(|_| {
                    let _ = self.remove(root, name, Some(mac));
                })?
            }
        };
        Ok(OpenCard { card, vhost: device(&at, "dev/vhost-net").ok() })
    }

    fn remove(&self, root: &Path, name: &str, mac: Option<Mac>) -> Result<(), LinkError> {
        let at = opened(root)?;
        let is_macvtap = at.exists(&format!("{NET}/{name}/macvtap"));
        let own =
            || at.attribute(&format!("{NET}/{name}/address")).ok()?.trim().parse::<Mac>().ok();
        if !is_macvtap || mac.is_some_and(|mac| own() != Some(mac)) {
            return Ok(());
        }
        match index(&at, name).and_then(interfaces::remove) {
            // It was removed meanwhile.
            Err(Refused { errno: Errno::NODEV, .. }) | Ok(()) => Ok(()),
            Err(refused) => Err(failed("remove", name, refused)),
        }
    }

    fn lost(&self, root: &Path, name: &str, link: &CardLink) -> Option<String> {
        let at = opened(root).ok()?;
        let is_there = at.exists(&format!("{NET}/{name}"));
        let again = "until the machine is stopped and started";
        match link {
            CardLink::User => None,
            CardLink::Bridge { bridge } if is_there => {
                let master = at.link_name(&format!("{NET}/{name}/master")).ok();
                (master.as_deref() != Some(bridge)).then(|| {
                    format!(
                        "{name} is no port of the bridge {bridge} any more: the guest's network card has no connection; \
                         `ip link set {name} master {bridge}` connects it"
                    )
                })
            }
            CardLink::Bridge { bridge } => Some(format!(
                "the interface {name} was removed: the guest's network card on the bridge {bridge} has no connection {again}"
            )),
            CardLink::Macvtap { .. } if is_there => None,
            CardLink::Macvtap { interface, .. } => Some(format!(
                "the interface {name} was removed: the guest's network card on {interface} has no connection {again}"
            )),
        }
    }

    fn usage(&self, root: &Path, name: &str) -> Option<NetworkUsage> {
        let at = opened(root).ok()?;
        let counter = |file: &str| {
            at.attribute(&format!("{NET}/{name}/statistics/{file}")).ok()?.parse::<u64>().ok()
        };
        let (received, sent) = (counter("rx_bytes")?, counter("tx_bytes")?);
        // A tap receives what the guest sends.
        if at.exists(&format!("{NET}/{name}/tun_flags")) {
            Some(NetworkUsage { received: sent, sent: received })
        } else {
            Some(NetworkUsage { received, sent })
        }
    }
}

/// A new tap interface as a port of a bridge.
fn tap(root: &Root, name: &str, bridge: &str, mac: Mac) -> Result<OwnedFd, LinkError> {
    let action = "make the tap interface";
    let tun = device(root, "dev/net/tun").map_err(|errno| failed(action, name, errno.into()))?;
    tun::make_tap(tun.as_fd(), name).map_err(|error| failed(action, name, error.into()))?;
    let mtu = root.attribute(&format!("{NET}/{bridge}/mtu")).ok();
    let mtu = mtu.and_then(|text| text.parse().ok());
    index(root, bridge)
        .and_then(|bridge| {
            // A bridge shows the least address of its ports as its own. It must not change for a guest.
            let [_, rest @ ..] = mac.0;
            let [a, b, c, d, e] = rest;
            interfaces::connect(index(root, name)?, bridge, Mac([0xfe, a, b, c, d, e]), mtu)
        })
        .map_err(|refused| failed("connect it to the bridge: the tap interface", name, refused))?;
    Ok(tun)
}

/// Makes a macvtap interface. One of that name that exists already is another's, and stays.
fn make_macvtap(root: &Root, name: &str, on: &str, mac: Mac) -> Result<(), LinkError> {
    let made = index(root, on).and_then(|on| interfaces::add_macvtap(name, on, mac));
    made.map_err(|refused| failed("make the macvtap interface", name, refused))
}

/// Opens a new macvtap interface.
fn open_macvtap(root: &Root, name: &str) -> Result<OwnedFd, LinkError> {
    let failed = |refused| failed("open the macvtap interface", name, refused);
    let number = index(root, name).map_err(failed)?;
    let node = format!("dev/tap{number}");
    let until = Instant::now() + NODE;
    loop {
        match device(root, &node) {
            Err(Errno::NOENT) if Instant::now() < until => thread::sleep(BETWEEN_LOOKS),
            opened => return opened.map_err(|errno| failed(errno.into())),
        }
    }
}

/// Opens a device node for reading and writing.
fn device(root: &Root, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(root.path().join(path), flags, Mode::empty())
}

/// The number of an interface.
fn index(root: &Root, name: &str) -> Result<u32, Refused> {
    let text = root.attribute(&format!("{NET}/{name}/ifindex")).map_err(Refused::from)?;
    text.parse().map_err(|_| Refused::from(Errno::BADMSG))
}

fn is_up(root: &Root, name: &str) -> bool {
    let flags = root.attribute(&format!("{NET}/{name}/flags")).unwrap_or_default();
    let flags = flags.strip_prefix("0x").and_then(|text| u32::from_str_radix(text, 16).ok());
    flags.is_some_and(|flags| flags & IFF_UP != 0)
}

fn opened(root: &Path) -> Result<Root, LinkError> {
    Root::open(root).map_err(|error: io::Error| LinkError::Refused {
        action: "open",
        interface: root.display().to_string(),
        reason: error.to_string(),
    })
}

fn failed(action: &'static str, name: &str, refused: Refused) -> LinkError {
    let Refused { errno, words } = refused;
    let reason = match words {
        Some(words) => format!("{}: {words}", problem::words(errno)),
        None => problem::words(errno),
    };
    LinkError::Refused { action, interface: name.into(), reason }
}
