//! The current state of the host's devices, and their users. Read-only; errors of the host become refusals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use model::{Address, AsFound, Holder, HolderKind, Host, Inventory, Lock, Refusal};

use crate::consent::{Consent, Named};
use crate::lock::lock;
use crate::refusals;

/// How often to check whether a worker has left the kernel.
const RECHECK: Duration = Duration::from_millis(20);

/// The host's devices.
pub struct Hardware {
    pub host: Arc<dyn Host>,
    /// The functions that threads wait for in [`wait_for_workers`](Self::wait_for_workers).
    waited_for: Mutex<Vec<Address>>,
}

/// A function in the list of those that are waited for, until dropped.
struct WaitedFor<'a> {
    hardware: &'a Hardware,
    address: Address,
}

impl Drop for WaitedFor<'_> {
    fn drop(&mut self) {
        let mut all = lock(&self.hardware.waited_for);
        // The same function can be in it twice.
        if let Some(index) = all.iter().position(|one| *one == self.address) {
            all.swap_remove(index);
        }
    }
}

impl Hardware {
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { host, waited_for: Mutex::default() }
    }

    pub fn inventory(&self) -> Result<Inventory, Refusal> {
        self.host.inventory().map_err(|error| refusals::unreadable(&error))
    }

    /// The inventory with only what choosing and planning need.
    pub fn sketch(&self) -> Result<Inventory, Refusal> {
        self.host.sketch().map_err(|error| refusals::unreadable(&error))
    }

    pub fn functions(&self, addresses: &[Address]) -> Result<Inventory, Refusal> {
        self.host.functions(addresses).map_err(|error| refusals::unreadable(&error))
    }

    /// Current state of a function: driver, `driver_override`, fingerprint.
    pub fn as_found(&self, address: Address) -> Result<AsFound, Refusal> {
        let found = self.host.as_found(&[address]).map_err(|error| refusals::unreadable(&error))?;
        found.into_iter().next().ok_or_else(|| model::no_such_function(address))
    }

    /// All users of these functions.
    pub fn holders(&self, taken: &[Address]) -> Result<Vec<Holder>, Refusal> {
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        self.host.holders(taken).map_err(|error| refusals::users_unknown(taken, &error))
    }

    /// Refuses functions that are in use, except for uses that the request consents to end.
    pub fn expect_no_holder(&self, taken: &[Address], consent: Consent) -> Result<(), Refusal> {
        let holders = self.holders(taken)?;
        let first = users(&holders, consent, &Named::default()).into_values().next();
        first.map_or(Ok(()), Err)
    }

    /// Those of these functions that are in use.
    pub fn used(&self, functions: &[Address]) -> Result<BTreeSet<Address>, Refusal> {
        let holders = self.holders(functions)?;
        Ok(users(&holders, Consent::NONE, &Named::default()).into_keys().collect())
    }

    /// Refuses functions in use by anything but the host's network, which can use a function as soon as it is back on
    /// its native driver.
    pub fn expect_no_other_than_network(&self, taken: &[Address]) -> Result<(), Refusal> {
        let mut holders = self.holders(taken)?;
        holders.retain(|holder| holder.kind != HolderKind::Network);
        let first = users(&holders, Consent::NONE, &Named::default()).into_values().next();
        first.map_or(Ok(()), Err)
    }

    /// Waits until no worker, also of a dead daemon, is inside the kernel on these functions, or until the timeout.
    /// Returns the functions that are still locked by a worker.
    pub fn wait_for_workers(
        &self,
        functions: impl IntoIterator<Item = Address>,
        patience: Duration,
    ) -> Result<Vec<Address>, Refusal> {
        let until = Instant::now() + patience;
        let mut waiting = Vec::new();
        for address in functions {
            let mut listed = None;
            while self.any_locked([address])? {
                if Instant::now() >= until {
                    waiting.push(address);
                    break;
                }
                listed.get_or_insert_with(|| self.list_as_waited_for(address));
                std::thread::sleep(RECHECK);
            }
        }
        Ok(waiting)
    }

    fn list_as_waited_for(&self, address: Address) -> WaitedFor<'_> {
        lock(&self.waited_for).push(address);
        WaitedFor { hardware: self, address }
    }

    /// The functions on which threads wait for a worker now.
    pub fn waited_for(&self) -> Vec<Address> {
        lock(&self.waited_for).clone()
    }

    /// Whether a worker is inside the kernel on any of these functions.
    pub fn any_locked(
        &self,
        functions: impl IntoIterator<Item = Address>,
    ) -> Result<bool, Refusal> {
        for address in functions {
            let locked = self.host.is_locked(&Lock::Function(address));
            if locked.map_err(|error| refusals::unreadable(&error))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The functions in use, each with its refusal by its first user, or by all that draw on it. Users that the request consents to do not count.
pub fn users(holders: &[Holder], consent: Consent, named: &Named) -> BTreeMap<Address, Refusal> {
    let mut refused: BTreeMap<Address, Vec<&Holder>> = BTreeMap::new();
    for holder in holders.iter().filter(|holder| !consent.covers(holder, named)) {
        refused.entry(holder.address).or_default().push(holder);
    }
    let refusal = |all: Vec<&Holder>| refusals::used_by(&all, consent, named);
    refused.into_iter().filter_map(|(address, all)| Some((address, refusal(all)?))).collect()
}
