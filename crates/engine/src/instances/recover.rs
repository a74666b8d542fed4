//! Finding machines that an earlier daemon started.

use model::{Exit, Presence, Refusal};

use super::Instances;
use crate::store::StoredInstance;
use crate::{InstanceState, RecoveryReport};

impl Instances {
    /// Finds the machine of an instance that is recorded as running, and updates the record.
    pub(crate) fn find_machine(
        &self,
        mut row: StoredInstance,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        if matches!(
            row.instance.state,
            InstanceState::Created | InstanceState::Stopped | InstanceState::Shutdown
        ) {
            return Ok(());
        }
        let id = row.instance.id;
        // A machine does not outlive its boot.
        if row.machine.as_ref().is_some_and(|machine| machine.boot_id != self.journal.boot) {
            row.set_ended(InstanceState::Stopped, Exit { code: None });
            row.instance.state_error = Some("the host was restarted".into());
            return self.save(&row);
        }
        match self.launcher(&row.instance.hypervisor)?.find(id) {
            Presence::Running(handle) => {
                row.instance.state = InstanceState::Running;
                row.instance.state_error = None;
                row.instance.pid = handle.pid();
                row.machine = Some(handle.clone());
                self.save(&row)?;
                self.watch(&row.instance.hypervisor, handle)?;
                report.adopted.push(id);
                Ok(())
            }
            Presence::Gone => {
                row.set_ended(InstanceState::Shutdown, Exit { code: None });
                self.save(&row)
            }
            Presence::Unknown(why) => {
                report.notes.push(format!(
                    "cannot determine whether {:?} runs ({why}); its devices are not touched",
                    row.instance.name
                ));
                row.instance.state = InstanceState::Unknown;
                row.instance.state_error = Some(why);
                self.save(&row)
            }
        }
    }
}
