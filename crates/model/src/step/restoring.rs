//! Undo steps.

use super::{Step, UndoOrder};
use crate::Address;

/// The steps that restore what `done` changed: the inverses, function by function in reverse order, each function's in
/// the order of [`UndoOrder`] (revoke access, remove the partition, clear the override, unbind, probe, power, mark).
/// Units are started again after all functions are returned.
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
        let rank = step.facts().undo_order;
        let turn = step.address().and_then(|a| order.iter().position(|other| *other == a));
        (rank.map(UndoOrder::stage), turn, rank)
    });
    steps.dedup();
    steps
}
