//! Undo steps.

use std::cmp::Reverse;

use super::{Step, UndoOrder, UndoStage};
use crate::Address;

/// The steps that restore what `done` changed: the inverses, function by function in reverse order, each function's in
/// the order of [`UndoOrder`] (revoke access, remove the partition, clear the override, unbind, probe, power, mark).
/// What draws on a display follows after all functions are returned: modules, framebuffers, consoles and units, each kind
/// in reverse order.
#[must_use]
pub fn restoring(done: &[Step]) -> Vec<Step> {
    let mut order: Vec<Address> = Vec::new();
    for address in done.iter().rev().filter_map(Step::address) {
        if !order.contains(&address) {
            order.push(address);
        }
    }
    let inverses = done.iter().enumerate();
    let mut steps: Vec<(usize, Step)> =
        inverses.filter_map(|(index, step)| Some((index, step.inverse()?))).collect();
    steps.sort_by_key(|(index, step)| {
        let rank = step.facts().undo_order;
        let stage = rank.map(UndoOrder::stage);
        let is_last = stage == Some(UndoStage::AfterAll);
        let turn = step.address().and_then(|a| order.iter().position(|other| *other == a));
        (stage, turn.filter(|_| !is_last), rank, is_last.then_some(Reverse(*index)))
    });
    let mut steps: Vec<Step> = steps.into_iter().map(|(_, step)| step).collect();
    steps.dedup();
    steps
}
