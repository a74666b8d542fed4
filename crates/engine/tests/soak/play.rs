//! Plays a history and checks the invariants after each event, and at the end after all faults are cleared.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use engine::{Engine, Instance, InstanceState};
use model::{Address, Claim, ClaimState, Host, Owner};

use crate::history::{Event, History, Outside};
use crate::truth::{Ours, count_of};
use crate::world::{World, broken, lock, words};

/// Plays a history. Returns the invariant that is violated.
pub fn play(history: &History) -> Result<(), String> {
    let world = World::new(history.on, 1);
    let played = catch_unwind(AssertUnwindSafe(|| {
        world.restart();
        for (turn, event) in history.events.iter().enumerate() {
            world.play(event, &format!("after event {turn}"));
        }
        world.end();
    }));
    world.close();
    // Ends the machines, and with them the threads that watch them.
    world.launcher.reboot();
    played.map_err(|cause| words(cause.as_ref()))
}

/// Steps whose effect may be on the host and that no claim or operation will undo. Steps that outlast a boot may stay
/// with a claim that is only reserved.
const LOST: &str =
    "SELECT steps.action FROM steps JOIN operations ON operations.id = steps.operation
    WHERE steps.state IN ('intended', 'done', 'failed') AND restoring = 0 AND steps.boot_id = ?1
      AND steps.claim IS NOT NULL AND operations.kind <> 'vf-count'
      AND steps.claim NOT IN (SELECT id FROM claims
          WHERE state <> 'reserved' OR json_extract(steps.action, '$.step') IN ('define_mdev', 'add_to_boot_list'))";

/// The devices of VF counts that could not be rolled back in this boot: `device clear` will retry it.
const PENDING_ROLLBACKS: &str = "SELECT DISTINCT json_extract(steps.action, '$.address') FROM steps
    JOIN operations ON operations.id = steps.operation AND operations.subject = steps.claim
    WHERE operations.state = 'failed' AND operations.kind IN ('vf-count', 'restore')
      AND steps.state IN ('intended', 'done', 'failed') AND restoring = 0 AND steps.boot_id = ?1
      AND json_extract(steps.action, '$.step') IN ('set_vf_count', 'set_autoprobe')";

impl World {
    fn play(self: &Arc<Self>, event: &Event, why: &str) {
        lock(&self.touched).clear();
        lock(&self.configured).clear();
        lock(&self.counted).clear();
        let before = self.engine().claims().all().unwrap();
        match event {
            Event::Do { verb, meanwhile } => {
                self.during(meanwhile.clone(), |engine| self.act(engine, verb));
            }
            Event::Crash { verb, meanwhile, at, again } => {
                let lived = self.killed_at(*at, false, |_| {
                    self.during(meanwhile.clone(), |engine| self.act(engine, verb));
                });
                if !lived {
                    self.unlock_store();
                    self.open();
                    self.killed_at(*again, false, |engine| self.recover(engine));
                    self.restart();
                }
            }
            Event::PowerCut { verb, at } => {
                self.during(None, |_| {});
                if !self.killed_at(*at, true, |engine| self.act(engine, verb)) {
                    self.reboot();
                }
            }
            Event::Outside(outside) => self.outside(&self.engine(), outside, false),
            Event::Restart => self.restart(),
            Event::Reboot => self.reboot(),
        }
        self.unlock_store();
        if std::mem::take(&mut *lock(&self.unwritable))
            && let Err(refusal) = self.engine().check_claims()
        {
            broken(format!("{why}: operations that were left open cannot be ended: {refusal}"));
        }
        if *lock(&self.gave_up) {
            self.restart();
        }
        let rebooted = matches!(event, Event::Reboot | Event::PowerCut { .. });
        self.check(why, Some((&before, rebooted)));
    }

    /// Checks all invariants that hold while no operation is running.
    fn check(&self, why: &str, before: Option<(&[Claim], bool)>) {
        let engine = self.engine();
        let claims = engine.claims().all().unwrap();
        let instances = engine.instances().all(&BTreeMap::new()).unwrap();
        if let Some((before, rebooted)) = before {
            self.check_kept(before, &claims, rebooted, why);
        }
        check_owners(&claims, &instances, why);
        self.check_machines(&instances, why);
        let store = self.sqlite();
        self.check_journal(&store, why);
        self.update_vf_counts(&engine, &store);
        let now = self.host.snapshot();
        let mut truth = lock(&self.truth);
        truth.check(&now, &Ours::of(&claims, false), why);
        for claim in claims.iter().filter(|claim| claim.state == ClaimState::Prepared) {
            truth.check_prepared(&now, claim, why);
        }
        if let Some(reset) = self.host.resets().iter().find(|reset| !reset.disturbed.is_empty()) {
            broken(format!("{why}: a reset hit another machine: {reset:?}"));
        }
    }

    /// Checks that claims of untouched owners have not changed.
    fn check_kept(&self, before: &[Claim], now: &[Claim], rebooted: bool, why: &str) {
        let touched = lock(&self.touched);
        for claim in before.iter().filter(|c| !touched.contains(&c.owner.to_string())) {
            let kept = now.iter().find(|other| other.id == claim.id);
            let well = match (claim.state, kept.map(|kept| kept.state)) {
                // Restoring is retried, and an orphan is then removed.
                (ClaimState::Wedged, state) => claim.owner.kind == "undo" || state.is_some(),
                (ClaimState::Prepared, Some(ClaimState::Reserved)) => rebooted,
                (state, now) => Some(state) == now,
            };
            if !well {
                broken(format!(
                    "{why}: the claim of {} was {:?} and is now {kept:?}",
                    claim.owner, claim.state
                ));
            }
        }
    }

    /// Checks that exactly the recorded machines run.
    fn check_machines(&self, instances: &[Instance], why: &str) {
        let running = self.launcher.running();
        for id in running.iter().chain(&self.launcher.files()) {
            if !instances.iter().any(|instance| instance.id == *id) {
                broken(format!("{why}: the machine {id} or its files belong to no instance"));
            }
        }
        for instance in instances {
            let runs = running.contains(&instance.id);
            let well = match instance.state {
                InstanceState::Stopped | InstanceState::Shutdown | InstanceState::Created => !runs,
                // The thread that watches it may not have noticed its end yet.
                InstanceState::Running | InstanceState::Unknown => true,
                _ => false,
            };
            if !well {
                broken(format!("{why}: {} is {:?}; runs: {runs}", instance.name, instance.state));
            }
        }
    }

    /// Checks that no operation is open and no step is lost.
    fn check_journal(&self, store: &rusqlite::Connection, why: &str) {
        let open = "SELECT kind FROM operations WHERE state = 'open'";
        let open: Vec<String> = store
            .prepare(open)
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .flatten()
            .collect();
        if !open.is_empty() {
            broken(format!("{why}: operations are open: {open:?}"));
        }
        let boot = self.host.boot_id().unwrap();
        let lost: Vec<String> = store
            .prepare(LOST)
            .unwrap()
            .query_map([boot], |row| row.get(0))
            .unwrap()
            .flatten()
            .collect();
        if !lost.is_empty() {
            broken(format!("{why}: steps are lost: {lost:#?}"));
        }
    }

    /// Updates the expected VF counts: requested counts are set or as before, and configured ones may be restored.
    fn update_vf_counts(&self, engine: &Engine, store: &rusqlite::Connection) {
        let now = self.host.snapshot();
        let ours = Ours::of(&engine.claims().all().unwrap(), false);
        let mut truth = lock(&self.truth);
        truth.see(&engine.inventory().unwrap());
        let unhealthy = unhealthy(store);
        let pending = self.pending_rollbacks(store);
        for (parent, count, autoprobe, done) in lock(&self.configured).iter() {
            if *done {
                continue;
            }
            // Until the rollback, its count is undefined.
            if unhealthy.contains(parent) {
                truth.undecided.insert(*parent);
                continue;
            }
            let is = count_of(&now, *parent);
            if is == (*count, Some(*autoprobe)) || is == truth.vfs_of(*parent) {
                truth.vfs_renewed(*parent, &now, &ours);
            }
        }
        for parent in
            truth.undecided.extract_if(.., |parent| !unhealthy.contains(parent)).collect::<Vec<_>>()
        {
            if count_of(&now, parent) == truth.vfs_of(parent) {
                truth.vfs_renewed(parent, &now, &ours);
            }
        }
        for configured in engine.vf_counts().all().unwrap() {
            let parent = configured.address;
            // A change to be rolled back is not expected, even if it matches the configuration.
            if pending.contains(&parent) {
                continue;
            }
            let is = count_of(&now, parent);
            if truth.vfs_of(parent).0 == 0 && is == (configured.count, Some(configured.autoprobe)) {
                truth.vfs_renewed(parent, &now, &ours);
            }
        }
        truth.unhealthy = unhealthy.into_iter().collect();
    }

    /// The devices whose VF count is to be rolled back in this boot.
    fn pending_rollbacks(&self, store: &rusqlite::Connection) -> Vec<Address> {
        let mut all = store.prepare(PENDING_ROLLBACKS).unwrap();
        let boot = self.host.boot_id().unwrap();
        let all = all.query_map([boot], |row| row.get::<_, String>(0)).unwrap();
        all.flatten().map(|address| address.parse().unwrap()).collect()
    }

    /// Clears all faults, then checks that everything can be released and the host is restored.
    fn end(self: &Arc<Self>) {
        let engine = self.engine();
        for pid in 4000..4003 {
            self.outside(&engine, &Outside::LetGo { pid }, false);
        }
        self.host.hide_holders(false);
        self.host.clear_faults();
        self.host.release();
        for address in self.host.snapshot().functions.keys() {
            self.host.regain_link(*address);
        }
        for instance in engine.instances().all(&BTreeMap::new()).unwrap() {
            self.launcher.set_unknown(instance.id, false);
        }
        drop(engine);
        self.restart();
        lock(&self.touched).clear();
        self.check("after all faults are cleared", None);
        let engine = self.engine();
        let well = |what: &str, result: Result<(), model::Refusal>| {
            if let Err(refusal) = result {
                broken(format!("at the end {what}: {refusal}"));
            }
        };
        for address in unhealthy(&self.sqlite()) {
            well("clear", engine.devices().clear(&address.to_string()).map(drop));
        }
        for instance in engine.instances().all(&BTreeMap::new()).unwrap() {
            // An armed failure to remove files may not have been used yet.
            if engine.instances().delete(&instance.name).is_err() {
                well("delete", engine.instances().delete(&instance.name));
            }
        }
        for claim in engine.claims().all().unwrap() {
            if claim.owner.kind == "undo" {
                let head = claim.head().unwrap().to_string();
                well("clear", engine.devices().clear(&head).map(drop));
            } else {
                well("release", engine.claims().release(&claim.id.to_string(), None).map(drop));
            }
        }
        self.check("at the end", None);
        let left = engine.claims().all().unwrap();
        if !left.is_empty() || !self.launcher.files().is_empty() {
            broken(format!("claims or files are left at the end: {left:?}"));
        }
    }
}

/// Functions that need manual attention.
fn unhealthy(store: &rusqlite::Connection) -> Vec<Address> {
    let mut all = store.prepare("SELECT address FROM health").unwrap();
    let all = all.query_map([], |row| row.get::<_, String>(0)).unwrap();
    all.flatten().map(|address| address.parse().unwrap()).collect()
}

/// Checks that no device has two owners and every claim has one.
fn check_owners(claims: &[Claim], instances: &[Instance], why: &str) {
    let mut given = BTreeSet::new();
    let mut mdevs = BTreeSet::new();
    for claim in claims {
        for address in claim.taken() {
            if !given.insert(address) {
                broken(format!("{why}: {address} is claimed twice"));
            }
        }
        for part in &claim.parts {
            let mdev = part.partition.as_ref().and_then(|partition| partition.mdev());
            if mdev.is_some_and(|uuid| !mdevs.insert(uuid)) {
                broken(format!("{why}: {mdev:?} is claimed twice"));
            }
        }
        let has = |instance: &Instance| claim.owner == Owner::instance(instance.id);
        let owned = match claim.owner.kind.as_str() {
            "job" => true,
            "instance" => instances.iter().any(has),
            _ => claim.state == ClaimState::Wedged,
        };
        if !owned {
            broken(format!("{why}: a claim without an owner: {claim:?}"));
        }
    }
    let parents = claims.iter().flat_map(|claim| &claim.parts).filter_map(|part| part.pins());
    if let Some(parent) = parents.into_iter().find(|parent| given.contains(parent)) {
        broken(format!("{why}: {parent} is claimed as a whole and in partitions"));
    }
}
