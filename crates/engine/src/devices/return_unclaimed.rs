//! Returning unclaimed devices to their native drivers: devices that a script left on vfio, that have a
//! `driver_override` for a driver that never bound, or that were wedged and answer again.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{Address, Function, Observed, PowerControl, Refusal, Step};
use uuid::Uuid;

use super::Devices;
use crate::refusals;
use crate::store::{Health, OpenOperation, StoredClaim, StoredInstance};
use crate::{OperationKind, Outcome, Returned, ReturnedDevice};

impl Devices {
    /// Returns these functions, or all if `asked` is empty, to their native drivers, unless they are in use or claimed.
    /// Reports the result for each.
    ///
    /// # Errors
    /// `device_not_found`; or if the store or the host cannot be read.
    pub fn return_unclaimed(&self, asked: &[Address]) -> Result<Vec<ReturnedDevice>, Refusal> {
        let mut inventory = self.hardware.inventory()?;
        let mut all = Vec::new();
        for address in asked {
            if inventory.function(*address).is_none() {
                return Err(model::no_such_function(*address));
            }
        }
        let boot_list = if asked.is_empty() { self.hardware.host.boot_list() } else { Vec::new() };
        // A claim's device is named, also if the claim put it on the boot list.
        let claims = self.store.read(StoredClaim::all)?;
        let is_claimed = |address| claims.iter().any(|claim| claim.claim.covers(address));
        let is_selected = |function: &Function| {
            let address = function.address;
            let stays = boot_list.contains(&address) && !is_claimed(address);
            let left_on_vfio = function.on_vfio() && !stays;
            asked.is_empty() && left_on_vfio || asked.contains(&function.address)
        };
        let unhealthy = self.unhealthy_functions()?;
        let mut unowned = BTreeSet::new();
        if asked.is_empty() {
            let all: Vec<Address> = inventory.functions.keys().copied().collect();
            unowned = self.marks.marked_by_nothing(&all)?.into_keys().collect();
        }
        let wanted: Vec<Address> = inventory
            .functions
            .values()
            .filter(|function| {
                is_selected(function)
                    || (asked.is_empty() && unhealthy.contains(&function.address))
                    || unowned.contains(&function.address)
            })
            .map(|function| function.address)
            .collect();
        self.hardware.host.complete(&mut inventory, &wanted);
        for address in wanted {
            let Some(function) = inventory.function(address) else { continue };
            let (outcome, reason) = match self.return_one(function) {
                Ok(outcome) => (outcome, None),
                Err(refusal) => {
                    (Returned::Left, Some(format!("{}; {}", refusal.message, refusal.remedy)))
                }
            };
            let now = self.hardware.functions(&[address])?;
            let driver = now.function(address).and_then(|function| function.driver.clone());
            all.push(ReturnedDevice { address, outcome, reason, driver });
        }
        Ok(all)
    }

    fn return_one(&self, function: &Function) -> Result<Returned, Refusal> {
        let address = function.address;
        self.marks.expect_no_other_store(address)?;
        if self.store.read(StoredClaim::all)?.iter().any(|claim| {
            claim.claim.covers(address) && claim.claim.state == model::ClaimState::Wedged
        }) || self.unhealthy_functions()?.contains(&address)
        {
            self.clear(&address.to_string())?;
            return Ok(Returned::Restored);
        }
        let (claims, instances) =
            self.store.read(|from| Ok((StoredClaim::all(from)?, StoredInstance::all(from)?)))?;
        if let Some(claim) = claims.iter().find(|claim| claim.claim.covers(address)) {
            let why = refusals::claimed(claim, &instances, &self.store.read(Health::all)?);
            return Err(Refusal { message: format!("{address} {}", why.message), ..why });
        }
        self.hardware.expect_no_other_than_network(&[address])?;
        let steps = self.return_steps(function)?;
        if steps.is_empty() {
            return Ok(Returned::Unchanged);
        }
        let subject = Uuid::new_v4();
        let _turn = self.journal.turns.take(subject);
        let operation = self.journal.open_operation(OperationKind::Return, subject, |_| Ok(()))?;
        let result = self.perform_all(&operation, function, &steps);
        let error = result.as_ref().err().map(|refusal| refusal.message.clone());
        let ended = if error.is_none() { Outcome::Done } else { Outcome::Failed };
        self.journal.close_operation(&operation, ended, error.as_deref(), |_| Ok(()))?;
        result.map(|()| Returned::Restored)
    }

    /// Finishes an interrupted return: a function between two drivers has none, and only this operation records it.
    pub(crate) fn finish_return(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let functions = self.store.read(|from| operation.functions(from, &self.journal.boot))?;
        self.hardware.wait_for_workers(functions.iter().copied(), patience)?;
        let functions: Vec<Address> = functions.into_iter().collect();
        let detailed =
            self.hardware.host.detail(&functions).map_err(|error| refusals::unreadable(&error))?;
        let mut result = Ok(());
        for function in functions.iter().filter_map(|address| detailed.function(*address)) {
            result = result.and(self.finish_one(operation, function));
        }
        let error = result.as_ref().err().map(|refusal| refusal.message.clone());
        let ended = if error.is_none() { Outcome::Done } else { Outcome::Failed };
        self.journal.close_operation(operation, ended, error.as_deref(), |_| Ok(()))?;
        result.map(|()| Vec::new())
    }

    fn finish_one(&self, operation: &OpenOperation, function: &Function) -> Result<(), Refusal> {
        self.hardware.expect_no_other_than_network(&[function.address])?;
        let mut steps = self.return_steps(function)?;
        let power = allow_runtime_suspend(function.address);
        if steps.is_empty() && self.hardware.host.observe(&power) == Ok(Observed::Before) {
            steps.push(power);
        }
        self.perform_all(operation, function, &steps)
    }

    /// The steps from the function's current state to its native driver.
    fn return_steps(&self, function: &Function) -> Result<Vec<Step>, Refusal> {
        let address = function.address;
        let found = self
            .hardware
            .host
            .as_found(&[address])
            .map_err(|error| refusals::unreadable(&error))?;
        let Some(found) = found.into_iter().next() else {
            return Err(model::no_such_function(address));
        };
        let mut steps = steps(function, found.driver_override);
        let unowned = self.marks.marked_by_nothing(&[address])?;
        steps.extend(unowned.into_iter().map(|(address, mark)| Step::Unmark { address, mark }));
        Ok(steps)
    }

    fn perform_all(
        &self,
        operation: &OpenOperation,
        function: &Function,
        steps: &[Step],
    ) -> Result<(), Refusal> {
        for (index, step) in steps.iter().enumerate() {
            // They are recorded as restoring, so they are never undone.
            let result = match index {
                0 => self.journal.restore_unrecorded(operation, operation.subject, step),
                _ => self.journal.restore(operation, operation.subject, step),
            };
            let Err(error) = result else { continue };
            if matches!(step, Step::Return { .. }) && self.has_native_driver(function)? {
                continue;
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Whether a native driver is bound, even if not the expected one.
    fn has_native_driver(&self, function: &Function) -> Result<bool, Refusal> {
        let now = self.hardware.functions(&[function.address])?;
        let now = now.function(function.address);
        Ok(now.is_some_and(|now| now.driver.is_some() && !now.on_vfio()))
    }

    fn unhealthy_functions(&self) -> Result<Vec<Address>, Refusal> {
        let health = self.store.read(Health::all)?;
        Ok(health.into_iter().map(|health| health.address).collect())
    }
}

/// The steps from a function's current state to its native driver.
fn steps(function: &Function, driver_override: Option<String>) -> Vec<Step> {
    let address = function.address;
    let mut steps = Vec::new();
    if driver_override.is_some() {
        steps.push(Step::SetOverride { address, from: driver_override, to: None });
    }
    let on_vfio = function.on_vfio();
    if let Some(driver) = function.driver.clone().filter(|_| on_vfio) {
        steps.push(Step::Unbind { address, driver });
    }
    let candidates = function.detail.as_ref().map(|detail| detail.candidate_drivers.as_slice());
    let native = candidates.unwrap_or_default().first();
    if let Some(native) = native.filter(|_| on_vfio || function.driver.is_none()) {
        // Candidates are module names, with `_` where the driver's name may have `-`; the driver that binds is read
        // afterwards.
        steps.push(Step::Return { address, driver: native.clone() });
        steps.push(allow_runtime_suspend(address));
    }
    steps
}

/// Allows runtime suspend again, which was disabled for vfio.
const fn allow_runtime_suspend(address: Address) -> Step {
    Step::SetPower { address, from: PowerControl::On, to: PowerControl::Auto }
}
