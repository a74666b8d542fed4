//! An inventory that follows the kernel's uevents.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
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
    live: Live,
    /// Held while uevents are taken from the socket and applied, so that they are in their order.
    turn: Mutex<()>,
}

impl Follower {
    /// Begins to follow, and reads the inventory.
    ///
    /// # Errors
    /// Where the kernel gives no such socket, as in some sandboxes, or the inventory cannot be read.
    pub fn start() -> Result<Self, HostError> {
        let root = Root::open(Path::new("/")).map_err(|error| failed("open", "/", &error))?;
        // First the socket: what changes while the inventory is read waits there.
        let socket = Socket::open().map_err(|error| listening(&error))?;
        let live = Live::read(root)?;
        Ok(Self { socket, live, turn: Mutex::default() })
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
        let most = if self.live.is_probing() { Some(PROBE) } else { None };
        let shortest = [limit, most].into_iter().flatten().min();
        let came = self.socket.wait(shortest).map_err(|error| listening(&error))?;
        Ok(came || (shortest != limit && shortest == most))
    }

    fn catch_up(&self) -> Result<Vec<Change>, HostError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match self.receive().map_err(|error| listening(&error))? {
            Some(events) => Ok(self.live.apply(&events)),
            None => {
                tracing::warn!("uevents were lost: the whole inventory is read again");
                self.live.rescan()
            }
        }
    }

    fn snapshot(&self) -> Arc<Inventory> {
        self.live.snapshot()
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
