//! Which open operations touch the same devices. Those that do not are recovered in parallel.

use std::collections::BTreeSet;

use model::{Address, Lock, Part, Step};
use rusqlite::Connection;

use crate::store::{OpenOperation, Recorded, StoredClaim};

/// An open operation, with the locks of everything that it touches.
#[derive(Debug)]
pub struct Touching {
    pub operation: OpenOperation,
    locks: BTreeSet<Lock>,
    /// The last step that did not succeed.
    pub step: Option<String>,
}

impl Touching {
    /// Reads what the operation and its claims have changed in this boot, and what the claims hold.
    pub fn read(from: &Connection, operation: OpenOperation, boot: &str) -> rusqlite::Result<Self> {
        let subject = operation.subject;
        let steps = operation.steps(from, boot)?;
        let interrupted = steps.iter().rev().find(|(_, is_unfinished)| *is_unfinished);
        let step = interrupted.map(|(recorded, _)| recorded.action.describe());
        let mut locks: BTreeSet<Lock> =
            steps.iter().filter_map(|(recorded, _)| recorded.step()).flat_map(locks).collect();
        let mut claims = StoredClaim::of_instance(from, subject)?;
        claims.extend(StoredClaim::by_id(from, subject)?);
        for stored in claims {
            let claim = stored.claim;
            let held = claim.taken().chain(claim.parts.iter().filter_map(Part::pins));
            locks.extend(held.map(Lock::Function));
            let outstanding = Recorded::of_claim(from, claim.id, None, boot)?;
            locks.extend(outstanding.iter().filter_map(Recorded::step).flat_map(self::locks));
        }
        Ok(Self { operation, locks, step })
    }

    /// The functions that it touches.
    pub fn functions(&self) -> Vec<Address> {
        let function = |lock: &Lock| match lock {
            Lock::Function(address) => Some(*address),
            Lock::Host => None,
        };
        self.locks.iter().filter_map(function).collect()
    }
}

/// The locks of a step. Steps without a device (modules) are never undone, and keep no operation from another.
fn locks(step: &Step) -> Vec<Lock> {
    if step.address().is_none() {
        return Vec::new();
    }
    let mut locks = step.locks_besides();
    locks.push(step.lock());
    locks
}

/// Groups of operations, each in the order in which they were opened: operations of different groups touch different
/// devices.
pub fn independent(all: Vec<Touching>) -> Vec<Vec<Touching>> {
    let mut groups: Vec<Vec<Touching>> = Vec::new();
    for one in all {
        let touches =
            |group: &Vec<Touching>| group.iter().any(|other| !other.locks.is_disjoint(&one.locks));
        let (same, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(touches);
        let mut group: Vec<Touching> = same.into_iter().flatten().collect();
        group.push(one);
        group.sort_by_key(|one| one.operation.id);
        groups = others;
        groups.push(group);
    }
    groups.sort_by_key(|group| group.first().map(|one| one.operation.id));
    groups
}
