//! From what was done to the steps that put it back.

use super::Step;
use crate::Address;

impl Step {
    /// Where the step stands among the restoring steps of one function: what is written down of it first, for nothing
    /// follows from that; then access, then the partition, then the override, so that the probe that follows finds the
    /// function's own driver, power last because drivers set it when they bind.
    const fn restoring_rank(&self) -> u8 {
        match self {
            Self::UndefineMdev { .. }
            | Self::DefineMdev { .. }
            | Self::UnreserveAtBoot { .. }
            | Self::ReserveAtBoot { .. } => 0,
            Self::GrantGroup { .. } | Self::GrantNode { .. } => 1,
            Self::SetVgpu { .. } | Self::RemoveMdev { .. } | Self::SetMdevAttribute { .. } => 2,
            Self::SetOverride { .. } => 3,
            Self::Unbind { .. } => 4,
            Self::Return { .. } | Self::Bind { .. } => 5,
            Self::SetVf { .. } | Self::CreateMdev { .. } => 6,
            // Virtual functions that come back get drivers, or none, as they did when they were found.
            Self::SetAutoprobe { .. } => 7,
            Self::SetVfCount { .. } => 8,
            Self::SetPersistence { .. } => 9,
            Self::SetPower { .. } => 10,
            Self::SetUnit { .. }
            | Self::Reset { .. }
            | Self::Evict { .. }
            | Self::LoadModule { .. } => 11,
        }
    }
}

/// The steps that restore what `done` changed: the inverses, function by function in reverse order, each function's
/// in restoring order (take back access, unmake the partition, clear the override, unbind, probe, power). Units are
/// started again when all functions are back.
#[must_use]
pub fn restoring(done: &[Step]) -> Vec<Step> {
    let mut order: Vec<Address> = Vec::new();
    for address in done.iter().rev().filter_map(Step::address) {
        if !order.contains(&address) {
            order.push(address);
        }
    }
    let mut steps: Vec<Step> = done.iter().filter_map(Step::inverse).collect();
    steps.sort_by_key(|step| {
        let stage = match step {
            Step::UndefineMdev { .. }
            | Step::UnreserveAtBoot { .. }
            | Step::GrantGroup { .. }
            | Step::GrantNode { .. } => 0,
            Step::SetUnit { .. } => 2,
            _ => 1,
        };
        let turn = step.address().and_then(|a| order.iter().position(|other| *other == a));
        (stage, turn, step.restoring_rank())
    });
    steps.dedup();
    steps
}
