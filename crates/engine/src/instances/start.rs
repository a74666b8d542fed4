//! Starting a stopped instance: its devices are still reserved for it.

use std::time::Duration;

use model::{Address, ClaimState, ContainerRun, Forward, Refusal};
use uuid::Uuid;

use super::{Instances, too_large, wrong_state};
use crate::consent::Consent;
use crate::refusals::{self, interrupted};
use crate::store::{Health, OpenOperation, StoredClaim, StoredInstance};
use crate::{Instance, InstanceState, OperationKind, Outcome};

impl Instances {
    /// Starts a stopped instance and returns when it runs.
    ///
    /// # Errors
    /// `not_found`, `invalid_state`, and most errors of [`create`](Self::create).
    pub fn start(&self, key: &str) -> Result<Instance, Refusal> {
        self.start_with(key, None)
    }

    /// The same; the instance of a container image runs another command from now on, if one is given.
    ///
    /// # Errors
    /// As [`start`](Self::start); `invalid_request` if the image is no container image.
    pub fn start_with(
        &self,
        key: &str,
        command: Option<ContainerRun>,
    ) -> Result<Instance, Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        if let Some(command) = command {
            self.change_command(id, command)?;
        }
        let started = self.start_in_turn(id)?;
        self.forget_restarts(id);
        Ok(started)
    }

    /// The same, on request or not, in the instance's turn.
    pub(super) fn start_in_turn(&self, id: Uuid) -> Result<Instance, Refusal> {
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        if !matches!(row.instance.state, InstanceState::Stopped | InstanceState::Shutdown) {
            let name = &row.instance.name;
            let instead = match row.instance.state {
                InstanceState::Paused => {
                    format!("`handover instance resume {name}` lets it continue")
                }
                InstanceState::Running => format!(
                    "`handover instance restart {name}` restarts it; `handover instance stop {name}` stops it"
                ),
                _ => format!("`handover instance show {name}` shows its state"),
            };
            return Err(wrong_state(&row, "started", instead));
        }
        self.settle_devices(&mut row)?;
        self.check_start(&row)?;
        self.forget_variables(&mut row)?;
        row.instance.state = InstanceState::Initializing;
        row.instance.state_error = None;
        let operation =
            self.journal.open_operation(OperationKind::Start, id, |tx| row.update(tx))?;
        self.bring_up_or_undo(&operation, row, |cause| {
            self.undo_start(&operation, cause, InstanceState::Stopped, self.journal.worker_wait())
        })
    }

    fn check_start(&self, row: &StoredInstance) -> Result<(), Refusal> {
        let launcher = self.usable_launcher(&row.instance.hypervisor)?;
        let options = &row.instance.options;
        launcher.check(options).map_err(|error| refusals::launch_failed(&error))?;
        let forwards: Vec<Forward> = options.forwards().copied().collect();
        let free = launcher.expect_free_ports(&forwards);
        free.map_err(|error| refusals::launch_failed(&error))?;
        self.disk_files(row)?;
        let there = self.host_memory()?;
        if row.instance.memory > there {
            return Err(too_large(row.instance.memory, there));
        }
        let consent = Consent::NONE.with_display(options.seat.take_display);
        let id = row.instance.id;
        for claim in self.store.read(|from| StoredClaim::of_instance(from, id))? {
            let taken: Vec<Address> = claim.claim.taken().collect();
            if claim.claim.state == ClaimState::Wedged {
                let head = claim.claim.head().map(|head| head.to_string()).unwrap_or_default();
                let reason = format!("{head} could not be restored earlier");
                let health = self.store.read(Health::all)?;
                return Err(refusals::not_restored_earlier(&claim.claim, &health, &reason));
            }
            self.claims.expect_healthy(&taken)?;
            let lost: Vec<Address> = claim.claim.lost().collect();
            self.hardware.expect_no_holder(&lost, consent)?;
        }
        Ok(())
    }

    /// Rolls back a start that failed or was interrupted: the instance is in the state `ended`, and its devices are as before
    /// the start.
    fn undo_start(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
        ended: InstanceState,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut row) = self.store.read(|from| StoredInstance::by_id(from, id))? else {
            self.journal.close_operation(
                operation,
                Outcome::Undone,
                Some(&cause.message),
                |_| Ok(()),
            )?;
            return Ok(Vec::new());
        };
        let outcome = match self.bring_down(operation, &row, Some(operation.id), patience) {
            Ok(outcome) => outcome,
            Err(undo) => {
                self.close_unknown(operation, &mut row, &undo)?;
                return Err(undo);
            }
        };
        self.give_back_usb(&mut row)?;
        row.set_ended(ended, model::Exit { code: None });
        row.instance.state_error = Some(outcome.message(cause));
        self.claims.close_undone(operation, cause, outcome, |tx| row.update(tx))
    }

    /// The same at recovery. A machine whose policy starts it again was not stopped on request: it is started again.
    pub(crate) fn recover_start(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let row = self.store.read(|from| StoredInstance::by_id(from, operation.subject))?;
        let applies = row.is_some_and(|row| row.instance.options.life.restart.applies_to(None));
        let ended = if applies { InstanceState::Shutdown } else { InstanceState::Stopped };
        self.undo_start(operation, &interrupted(OperationKind::Start), ended, patience)
    }
}
