//! An inventory that follows the kernel's uevents.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use model::{Change, Following, HostError, Inventory};

use super::Live;
use crate::root::Root;
use crate::uevent::{Received, Socket, Uevent};

/// So many uevents are applied at once: who waits for the outcome of a flood gets it in pieces.
const BATCH: usize = 1024;

/// How often a function is looked at while a driver may be probing it.
const PROBE: Duration = Duration::from_millis(500);

/// The inventory of the running system, and the socket on which the kernel tells what changes.
#[derive(Debug)]
pub struct Follower {
    socket: Socket,
    live: OnceLock<Live>,
    /// Held while uevents are taken from the socket and applied, so that they are in their order.
    turn: Mutex<()>,
}

impl Follower {
    /// Begins to follow, and reads the inventory.
    ///
    /// # Errors
    /// Where the kernel gives no such socket, as in some sandboxes, or the inventory cannot be read.
    pub fn start() -> Result<Self, HostError> {
        let follower = Self::listen()?;
        follower.live()?;
        Ok(follower)
    }

    /// Begins to listen. The inventory is read by the first [`catch_up`](Following::catch_up), and is empty until then:
    /// a daemon on a host with thousands of functions answers before it has read them all.
    ///
    /// # Errors
    /// Where the kernel gives no such socket, as in some sandboxes.
    pub fn listen() -> Result<Self, HostError> {
        let socket = Socket::open().map_err(|error| listening(&error))?;
        Ok(Self { socket, live: OnceLock::new(), turn: Mutex::default() })
    }

    /// What is followed; read now if nobody has. What changes meanwhile waits in the socket, which was opened before.
    fn live(&self) -> Result<&Live, HostError> {
        if let Some(live) = self.live.get() {
            return Ok(live);
        }
        let root = Root::open(Path::new("/")).map_err(|error| failed("open", "/", &error))?;
        let live = Live::read(root)?;
        Ok(self.live.get_or_init(|| live))
    }

    /// Takes what has come; `None` where something was lost.
    fn receive(&self) -> io::Result<Option<Vec<Uevent>>> {
        let mut events = Vec::new();
        while events.len() < BATCH {
            match self.socket.receive()? {
                Some(Received::Uevent(event)) => events.push(event),
                Some(Received::Lost) => {
                    // Until nothing waits any more the kernel goes on dropping (`netlink_overrun` in
                    // net/netlink/af_netlink.c), and what still waits is older than what was dropped.
                    while self.socket.receive()?.is_some() {}
                    return Ok(None);
                }
                None => break,
            }
        }
        Ok(Some(events))
    }
}

impl Following for Follower {
    fn wait(&self, limit: Option<Duration>) -> Result<bool, HostError> {
        let Some(live) = self.live.get() else { return Ok(true) };
        let most = if live.is_probing() { Some(PROBE) } else { None };
        let shortest = [limit, most].into_iter().flatten().min();
        let came = self.socket.wait(shortest).map_err(|error| listening(&error))?;
        Ok(came || (shortest != limit && shortest == most))
    }

    fn catch_up(&self) -> Result<Vec<Change>, HostError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live()?;
        match self.receive().map_err(|error| listening(&error))? {
            Some(events) => Ok(live.apply(&events)),
            None => {
                tracing::warn!("uevents were lost: the whole inventory is read again");
                live.rescan()
            }
        }
    }

    fn snapshot(&self) -> Arc<Inventory> {
        self.live.get().map(Live::snapshot).unwrap_or_default()
    }
}

fn listening(error: &io::Error) -> HostError {
    failed("listen to", "the kernel's uevents (netlink)", error)
}

fn failed(action: &str, path: &str, error: &io::Error) -> HostError {
    HostError::File {
        action: action.into(),
        path: path.into(),
        reason: error.to_string(),
        errno: error.raw_os_error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_listens_reads_the_inventory_when_it_is_wanted() {
        // Some sandboxes have no such socket.
        let Ok(follower) = Follower::listen() else { return };
        assert!(follower.live.get().is_none());
        assert_eq!(*follower.snapshot(), Inventory::default());
        assert_eq!(follower.wait(None), Ok(true), "whoever waits is told to catch up");
        follower.catch_up().unwrap();
        assert!(follower.live.get().is_some());
    }
}
