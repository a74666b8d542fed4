//! What a running machine uses, from its cgroup, procfs and its VMM.

use std::io;
use std::time::{Duration, Instant};

use model::{LaunchError, Launcher as _, NetworkUsage, Presence, Usage, VmmProcess};
use uuid::Uuid;

use super::control::Control;
use super::procfs::Proc;
use super::vmm::Vmm;
use super::{ANSWER, ProcessLauncher, cgroup, does_not_run, watching};

/// Clock ticks a second in procfs: `USER_HZ` (include/asm-generic/param.h), on x86 and ARM.
const TICKS_A_SECOND: u64 = 100;

impl<V: Vmm> ProcessLauncher<V> {
    /// What a running machine uses.
    pub(super) fn measure(&self, id: Uuid) -> Result<Usage, LaunchError> {
        let Presence::Running(handle) = self.find(id) else { return Err(does_not_run()) };
        let process = handle.process().ok_or_else(does_not_run)?;
        let record = self.run_dir(id).record().ok().flatten();
        let record = record.filter(|record| record.handle == handle);
        let group = record.as_ref().and_then(|record| record.cgroup.as_deref());
        let in_group = group.and_then(cgroup::cpu_time);
        let network = record.and_then(|record| self.network_usage(&record.interfaces));
        let measured = measure(&self.proc, process, in_group).map_err(watching)?;
        // Only now is it certain that the numbers are not those of another process with the same pid.
        if !self.proc.lives(&handle).map_err(watching)? {
            return Err(does_not_run());
        }
        let control = Control::running(self.run_dir(id).control());
        let disks = self.vmm.disk_usage(&control, Instant::now() + ANSWER);
        let disks = disks.unwrap_or_else(|error| {
            tracing::debug!(machine = %id, %error, "the VMM does not tell what its disks did");
            None
        });
        Ok(Usage { disks, network, ..measured })
    }

    /// What the cards with these interfaces have received and sent; `None` if there are none.
    fn network_usage(&self, interfaces: &[String]) -> Option<NetworkUsage> {
        let of = |name: &String| self.config.links.usage(&self.config.root, name);
        interfaces.iter().filter_map(of).reduce(|all, one| NetworkUsage {
            received: all.received.saturating_add(one.received),
            sent: all.sent.saturating_add(one.sent),
        })
    }
}

/// What a process uses. Its processor time is that of its group, if that is known.
fn measure(proc: &Proc, process: VmmProcess, in_group: Option<Duration>) -> io::Result<Usage> {
    let pid = process.pid.to_string();
    let memory = proc.memory(&pid)?;
    let cpu = match in_group {
        Some(cpu) => cpu,
        None => ticks(proc.cpu_ticks(&pid)?),
    };
    let (resident, address_space) = (memory.resident, memory.address_space);
    Ok(Usage { cpu, resident, address_space, disks: None, network: None })
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000 / TICKS_A_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_process_without_a_group_is_measured_by_itself() {
        let proc = Proc::below(Path::new("/"));
        let process = VmmProcess { pid: std::process::id(), start_time: 0 };
        let usage = measure(&proc, process, None).unwrap();
        assert!(usage.resident > 0 && usage.address_space >= usage.resident, "{usage:?}");
        let given = Duration::from_secs(7);
        assert_eq!(measure(&proc, process, Some(given)).unwrap().cpu, given);
        assert_eq!(ticks(150), Duration::from_millis(1500));
    }
}
