//! Resetting a device of a prepared claim, on request.

use model::{Address, ClaimState, Code, Inventory, Refusal, ResetDomain, ResetReach, Step};

use super::{Access, Claims};
use crate::refusals::with_failed_undo;
use crate::{OperationKind, Outcome};

impl Claims {
    /// Resets the part of a prepared claim that has this function. The claim stays prepared.
    ///
    /// # Errors
    /// `invalid_state` if the claim is not prepared, or a reset would affect other functions; `in_use` while it is open;
    /// `step_failed` or `device_wedged` if the reset fails.
    pub fn reset(&self, key: &str, function: Address) -> Result<(), Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        let _turn = self.journal.turn_of(id)?;
        let claim = self.stored_claim(&id.to_string())?;
        self.expect_not_an_instances(&claim)?;
        if claim.claim.state != ClaimState::Prepared {
            return Err(Refusal::new(
                Code::InvalidState,
                format!("claim {id} is not prepared, so its devices are not reset"),
                format!("prepare it first: `handover prepare {id}`"),
            ));
        }
        self.expect_unused(&claim)?;
        let inventory = self.hardware.sketch()?;
        let access = Access { uid: claim.uid.unwrap_or(0), reset: true, ..Access::default() };
        let (plan, _) = self.plan(&inventory, &claim.claim, &access)?;
        let part = claim.claim.parts.iter().find(|part| part.taken().any(|one| one == function));
        let functions: Vec<Address> = part.into_iter().flat_map(model::Part::taken).collect();
        let is_of_part =
            |step: &&Step| step.address().is_some_and(|address| functions.contains(&address));
        let steps: Vec<&Step> = plan.last.iter().filter(is_of_part).collect();
        if steps.is_empty() {
            return Err(no_reset(&inventory, function));
        }
        // Recovery rolls back only the steps of this operation, and a reset has no undo: the claim stays prepared.
        let operation = self.begin(OperationKind::Prepare, id)?;
        let mut steps = steps.into_iter();
        let done = steps.try_for_each(|step| self.journal.perform(&operation, id, step));
        match done.map_err(Refusal::from) {
            Ok(()) => self.journal.close_operation(&operation, Outcome::Done, None, |_| Ok(())),
            Err(cause) => match self.undo_prepare(&operation, &cause, self.journal.worker_wait()) {
                Ok(_) => Err(cause),
                Err(undo) => Err(with_failed_undo(&cause, &undo)),
            },
        }
    }
}

/// Why a function is not reset.
pub fn no_reset(inventory: &Inventory, address: Address) -> Refusal {
    let domain = inventory.function(address).map(|function| ResetDomain::of(inventory, function));
    let why = match domain {
        Some(ResetDomain { reach: ResetReach::Bus, functions }) => {
            let others = functions.iter().filter(|other| **other != address);
            let others: Vec<String> = others.map(ToString::to_string).collect();
            format!("a reset of {address} would also reset {}", others.join(", "))
        }
        Some(ResetDomain { reach: ResetReach::Unknown, .. }) => {
            format!("this kernel does not tell what a reset of {address} would affect")
        }
        Some(ResetDomain { reach: ResetReach::Off, .. }) => {
            return Refusal::new(
                Code::InvalidState,
                format!("the resets of {address} are switched off: its reset_method is empty"),
                format!("switch them on: `{}`", model::doctor::resets_on(address)),
            );
        }
        _ => format!("the kernel has no way to reset {address}"),
    };
    Refusal::new(
        Code::InvalidState,
        why,
        format!(
            "`handover show {address}` shows its reset methods; a power cycle resets all devices"
        ),
    )
}
