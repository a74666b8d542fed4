//! One process, from `/proc/PID`: its program and its start time. Pid and start time together identify a process.

use model::ProcessStat;

use crate::root::Dir;

/// Reads `/proc/PID/stat`; `None` where the process is gone.
pub fn stat(process: &Dir) -> Option<ProcessStat> {
    ProcessStat::parse(&process.bytes("stat", 4096).ok()?)
}

/// The program's name.
pub fn program(process: &Dir) -> Option<String> {
    process.text("comm").ok().filter(|name| !name.is_empty())
}
