//! Finding machines that an earlier daemon started.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Exit, KnownMachine, Launcher, Presence, Refusal};
use uuid::Uuid;

use super::Instances;
use crate::store::StoredInstance;
use crate::{InstanceState, RecoveryReport};

impl Instances {
    /// Notes machines that no instance has, as after a restored backup. Nothing is done to them: they have users and disks.
    pub(crate) fn note_unrecorded(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let machines = || {
            let of = |launcher: &Arc<dyn Launcher>| launcher.machines().into_iter();
            self.launchers.iter().flat_map(move |one| of(one).map(move |known| (one, known)))
        };
        // An instance is recorded before its machine has files, and longer. One that was deleted in between is no longer
        // among the machines.
        let before: BTreeSet<Uuid> = machines().map(|(_, known)| known.id).collect();
        let recorded: BTreeSet<Uuid> =
            self.store.read(StoredInstance::all)?.iter().map(|row| row.instance.id).collect();
        for (launcher, KnownMachine { id, dir, .. }) in machines()
            .filter(|(_, known)| before.contains(&known.id) && !recorded.contains(&known.id))
        {
            let dir = dir.display();
            report.notes.push(match launcher.find(id) {
                Presence::Running(handle) => {
                    let process =
                        handle.pid().map_or_else(String::new, |pid| format!(" (pid {pid})"));
                    format!(
                        "machine {id}{process} runs, but no instance has it: shut it down from within, or end its process; \
                         its files are in {dir}"
                    )
                }
                Presence::Unknown(why) => {
                    format!("no instance has machine {id}, and it may run ({why}); its files are in {dir}")
                }
                Presence::Gone => {
                    format!("no instance has machine {id}, which has ended: remove {dir} if its disk is not needed")
                }
            });
        }
        Ok(())
    }

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
            return self.settle_devices(&mut row);
        }
        let id = row.instance.id;
        // A machine does not outlive its boot.
        if row.machine.as_ref().is_some_and(|machine| machine.boot_id != self.journal.boot) {
            row.set_ended(InstanceState::Stopped, Exit { code: None });
            row.instance.state_error = Some("the host was restarted".into());
            self.save(&row)?;
            return self.settle_devices(&mut row);
        }
        match self.launcher(&row.instance.hypervisor)?.find(id) {
            Presence::Running(handle) => {
                row.instance.state = self.state_of_running(&row);
                row.instance.state_error = None;
                row.instance.pid = handle.pid();
                row.machine = Some(handle.clone());
                self.save(&row)?;
                self.settle_devices(&mut row)?;
                if self.watch(&row.instance.hypervisor, handle)? {
                    report.adopted.push(row.instance.name);
                }
                Ok(())
            }
            Presence::Gone => {
                // What it had on the host, such as interfaces, is left if no daemon saw its end.
                if let Err(error) = self.launcher(&row.instance.hypervisor)?.kill(id) {
                    tracing::warn!(machine = %id, %error, "something of the machine is left");
                }
                self.set_ended(&mut row, InstanceState::Shutdown, Exit { code: None });
                self.save(&row)?;
                self.settle_devices(&mut row)
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
