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
                macvtap(&at, name, interface, mac).inspect_err(|_| {
                    let _ = self.remove(root, name);
                })?
            }
        };
        Ok(OpenCard { card, vhost: device(&at, "dev/vhost-net").ok() })
    }

    fn remove(&self, root: &Path, name: &str) -> Result<(), LinkError> {
        let at = opened(root)?;
        if !at.exists(&format!("{NET}/{name}/macvtap")) {
            return Ok(());
        }
        match index(&at, name).and_then(interfaces::remove) {
            // It was removed meanwhile.
            Err(Refused { errno: Errno::NODEV, .. }) | Ok(()) => Ok(()),
            Err(refused) => Err(failed("remove", name, refused)),
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

/// A new macvtap interface.
fn macvtap(root: &Root, name: &str, on: &str, mac: Mac) -> Result<OwnedFd, LinkError> {
    let failed = |refused| failed("make the macvtap interface", name, refused);
    let made = index(root, on).and_then(|on| interfaces::add_macvtap(name, on, mac));
    made.map_err(failed)?;
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
