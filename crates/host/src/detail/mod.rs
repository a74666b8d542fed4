//! Reads the detail of a function: configuration space, which wakes it, and attributes that wait for its lock or ask
//! its driver. A driver that hangs holds that lock for ever, so on the running system a worker reads detail, with a
//! deadline, and only of functions that are awake.

mod config;
mod link;
mod mig;
mod names;
mod partitions;
mod registers;

use model::{Address, Detail, Function};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::function_files::{self, DEVICES};
use crate::inventory::{sriov_note, unreadable};
use crate::problem::words;
use crate::root::{Dir, Root};
use crate::sriov::Sriov;
pub use config::{Config, WHOLE};
pub use link::baseline as link_baseline;
pub use partitions::{CURRENT_VGPU, vgpu_types};
pub use registers::serial_number;

/// A request for the detail of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailRequest {
    /// The function.
    pub address: Address,
    /// What to read.
    pub depth: Depth,
}

/// How much of a function is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// Only whether its configuration space answers: two reads on the bus.
    Answer,
    /// The partitions that a device offers, read from its driver.
    Partitions,
    /// Everything. Configuration space is a thousand reads of 4 bytes on the bus.
    All,
}

/// The detail of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The function.
    pub address: Address,
    /// What was read.
    pub detail: Detail,
    /// What could not be read.
    pub notes: Vec<String>,
}

/// The note for a function whose configuration space is all ones.
const SILENT: &str = "its configuration space reads as all ones: it does not respond";

/// How much shows that: the ids, and the command and status registers.
const HEADER: usize = 8;

/// The note for a suspended function, which is not woken for detail; `None` if it is awake.
pub fn asleep(function: &Function) -> Option<String> {
    let status = function.power.runtime_status.as_deref();
    let status = status.filter(|s| matches!(*s, "suspended" | "suspending" | "resuming"));
    let state = function.power.state.as_deref().filter(|state| *state == "D3cold");
    let words = state.or(status)?;
    Some(format!("power state {words}: configuration space was not read"))
}

/// Reads the detail of a function. It can block in the function's driver.
pub fn read(root: &Root, request: DetailRequest) -> Reading {
    let DetailRequest { address, depth } = request;
    let mut reading = Reading { address, detail: Detail::default(), notes: Vec::new() };
    match root.dir(&format!("{DEVICES}/{address}")) {
        Ok(dir) if depth == Depth::Answer => {
            answer(&dir, &mut reading);
            return reading;
        }
        Ok(dir) => fill(&dir, depth == Depth::All, &mut reading),
        Err(errno) => reading.notes.push(format!("cannot read its directory: {}", words(errno))),
    }
    reading.detail.mig = mig::instances(root, address);
    reading
}

fn fill(dir: &Dir, with_configuration: bool, reading: &mut Reading) {
    let Reading { detail, notes, .. } = reading;
    match function_files::driver_override(dir) {
        Ok(set) => detail.driver_override = set,
        Err(Errno::NOENT) => {}
        Err(errno) => notes.push(unreadable("driver_override", errno)),
    }
    match Sriov::of(dir).vf_count() {
        Ok(count) => detail.vf_count = Some(count),
        Err(unread) => notes.extend(sriov_note(&unread)),
    }
    detail.mdev_types = partitions::mdev_types(dir);
    detail.vgpu = partitions::vgpu(dir);
    if !with_configuration {
        return;
    }
    match dir.bytes("config", WHOLE) {
        Ok(bytes) => configuration(dir, Config::new(&bytes), detail, notes),
        Err(Errno::NOENT) => notes.push("no config: its configuration space is unknown".into()),
        Err(errno) => notes.push(unreadable("config", errno)),
    }
}

/// Only whether it answers. What cannot be read is told where detail is asked for.
fn answer(dir: &Dir, reading: &mut Reading) {
    if let Ok(bytes) = dir.first("config", HEADER, WHOLE)
        && Config::new(&bytes).is_gone()
    {
        reading.detail.silent = true;
        reading.notes.push(SILENT.into());
    }
}

fn configuration(dir: &Dir, config: Config<'_>, detail: &mut Detail, notes: &mut Vec<String>) {
    if config.is_gone() {
        detail.silent = true;
        notes.push(SILENT.into());
        return;
    }
    if config.is_header_only() {
        notes.push("only 64 bytes of configuration space can be read without root".into());
        detail.link = link::of_attributes(dir);
        return;
    }
    registers::fill(config, detail);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspended_function_is_not_woken() {
        let mut function = Function::unknown("0000:01:00.0".parse().unwrap());
        assert_eq!(asleep(&function), None);
        function.power.runtime_status = Some("active".into());
        function.power.state = Some("D0".into());
        assert_eq!(asleep(&function), None);
        function.power.runtime_status = Some("suspended".into());
        assert!(asleep(&function).unwrap().contains("suspended"));
        function.power.state = Some("D3cold".into());
        assert!(asleep(&function).unwrap().contains("D3cold"));
    }
}
