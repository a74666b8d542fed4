//! Running programs that are known to use GPUs.

use model::doctor::{Process, full_name};

use crate::holders;
use crate::root::Root;

/// Reads these processes, sorted by pid.
pub fn read(root: &Root) -> Vec<Process> {
    let names = root.names("proc").unwrap_or_default();
    let mut processes: Vec<Process> = names
        .iter()
        .filter_map(|name| {
            let pid = name.parse().ok()?;
            // Skipped if it exited since the listing, or may not be read.
            let name = full_name(&root.text(&format!("proc/{pid}/comm")).ok()?)?;
            let group = root.text(&format!("proc/{pid}/cgroup")).unwrap_or_default();
            let unit = holders::unit(&group).map(str::to_owned);
            Some(Process { pid, name: name.to_owned(), unit })
        })
        .collect();
    processes.sort_unstable_by_key(|process| process.pid);
    processes
}
