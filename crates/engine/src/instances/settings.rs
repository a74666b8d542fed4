//! Changing an instance after its creation.

use model::{Autostart, Refusal};

use super::{Instances, wrong_state};
use crate::store::Durability;
use crate::{ChangeInstance, Instance, InstanceState};

impl Instances {
    /// Changes an instance. Processors and memory change while it is stopped; the rest at any time.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it is not stopped; those of the values in a creation.
    pub fn change(&self, key: &str, change: ChangeInstance) -> Result<Instance, Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        let is_stopped =
            matches!(row.instance.state, InstanceState::Stopped | InstanceState::Shutdown);
        if (change.vcpus.is_some() || change.memory.is_some()) && !is_stopped {
            let stop = format!(
                "stop it first: `handover instance stop {}`; what starts it can be changed at any time",
                row.instance.name
            );
            return Err(wrong_state(&row, "given other processors or memory", stop));
        }
        let instance = &mut row.instance;
        if change.vcpus.is_some_and(|vcpus| vcpus != instance.vcpus) {
            // It was for the earlier number.
            instance.options.cpu.topology = None;
        }
        instance.vcpus = change.vcpus.unwrap_or(instance.vcpus);
        instance.memory = change.memory.unwrap_or(instance.memory);
        if change.vcpus.is_some() || change.memory.is_some() {
            self.check_size(instance.vcpus, instance.memory)?;
        }
        let life = &mut instance.options.life;
        let changes_restart = change.restart.is_some();
        if let Some(change) = change.restart {
            life.restart = change.apply(&life.restart);
        }
        if let Some(change) = change.autostart {
            life.autostart = self.autostart_from_next_boot(change.apply(life.autostart.take()));
        }
        self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        if changes_restart {
            self.forget_restarts(id);
            if row.instance.state == InstanceState::Shutdown {
                self.restart_later(&row, None);
            }
        }
        self.journal.notify();
        Ok(row.instance)
    }

    /// An instance that starts with the host does so from the next start of the host on.
    pub(super) fn autostart_from_next_boot(
        &self,
        autostart: Option<Autostart>,
    ) -> Option<Autostart> {
        let boot_id = Some(self.journal.boot.clone());
        autostart.map(|autostart| Autostart { boot_id, ..autostart })
    }
}
