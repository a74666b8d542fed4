//! An inventory that is updated by the kernel's uevents.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use model::{Change, HostError, HostMonitor, Inventory};

use super::Live;
use crate::root::Root;
use crate::uevent::{Received, Socket, Uevent};

/// The most uevents that are applied at once, so that changes are reported during a flood of uevents.
const BATCH: usize = 1024;

/// How often a function is checked while a driver may be probing it.
const PROBE: Duration = Duration::from_millis(500);

/// The inventory of the running system, and the socket of the kernel's uevents.
#[derive(Debug)]
pub struct Follower {
    socket: Socket,
    live: OnceLock<Live>,
    /// Locked while uevents are received and applied, to keep their order.
    turn: Mutex<()>,
}

impl Follower {
    /// Starts listening, and reads the inventory.
    ///
    /// # Errors
    /// If the socket cannot be opened, as in some sandboxes, or the inventory cannot be read.
    pub fn start() -> Result<Self, HostError> {
        let follower = Self::listen()?;
        follower.live()?;
        Ok(follower)
    }

    /// Starts listening. The first [`catch_up`](HostMonitor::catch_up) reads the inventory, which is empty until then: a
    /// daemon on a host with thousands of functions answers before it has read them all.
    ///
    /// # Errors
    /// If the socket cannot be opened, as in some sandboxes.
    pub fn listen() -> Result<Self, HostError> {
        let socket = Socket::open().map_err(|error| listening(&error))?;
        Ok(Self { socket, live: OnceLock::new(), turn: Mutex::default() })
    }

    /// The inventory; the first call reads it. Changes during the read wait in the socket, which was opened before.
    fn live(&self) -> Result<&Live, HostError> {
        if let Some(live) = self.live.get() {
            return Ok(live);
        }
        let root = Root::open(Path::new("/")).map_err(|error| failed("open", "/", &error))?;
        let live = Live::read(root)?;
        Ok(self.live.get_or_init(|| live))
    }

    /// Receives the pending uevents; `None` if some were lost.
    fn receive(&self) -> io::Result<Option<Vec<Uevent>>> {
        let mut events = Vec::new();
        while events.len() < BATCH {
            match self.socket.receive()? {
                Some(Received::Uevent(event)) => events.push(event),
                Some(Received::Lost) => {
                    // The kernel drops messages until the queue is empty (`netlink_overrun` in
                    // net/netlink/af_netlink.c), and the queued messages are older than the dropped ones.
                    while self.socket.receive()?.is_some() {}
                    return Ok(None);
                }
                None => break,
            }
        }
        Ok(Some(events))
    }
}

impl HostMonitor for Follower {
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
                tracing::warn!("uevents were lost; reading the whole inventory again");
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
    fn listening_reads_the_inventory_at_the_first_catch_up() {
        // Some sandboxes have no such socket.
        let Ok(follower) = Follower::listen() else { return };
        assert!(follower.live.get().is_none());
        assert_eq!(*follower.snapshot(), Inventory::default());
        assert_eq!(follower.wait(None), Ok(true), "the first wait returns at once");
        follower.catch_up().unwrap();
        assert!(follower.live.get().is_some());
    }
}
