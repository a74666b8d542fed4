//! The expected state of the host: its original state, plus the changes by others than the engine.

use std::collections::{BTreeMap, BTreeSet};

use model::{Address, Claim, ClaimState, Mechanism, Part, Partition};
use sim::Snapshot;
use uuid::Uuid;

use crate::world::broken;

/// The expected state of the host without its claims.
pub struct Truth {
    expected: Snapshot,
    /// Functions that others changed while claimed, or that fell off the bus: their state is undefined until the next
    /// boot.
    loose: BTreeSet<Address>,
    /// The IOMMU groups at boot.
    groups: BTreeMap<u32, Vec<Address>>,
    /// The physical function of each virtual one seen so far.
    parents: BTreeMap<Address, Address>,
    persistent: BTreeSet<Address>,
    /// Functions that need manual attention.
    pub unhealthy: BTreeSet<Address>,
    /// Functions whose VF count could be neither changed nor rolled back: the rollback will create their VFs anew.
    pub undecided: BTreeSet<Address>,
    /// Whether steps may make functions fall off the bus.
    pub may_lose: bool,
}

/// What claims have taken.
#[derive(Default)]
pub struct Ours {
    functions: BTreeSet<Address>,
    mdevs: BTreeSet<Uuid>,
    /// Mediated devices that claims have defined for mdevctl: the definitions outlast a boot.
    defined: BTreeSet<Uuid>,
    /// Functions that claims have put on the boot list: the entries outlast a boot.
    listed: BTreeSet<Address>,
}

impl Ours {
    /// What these claims have taken. `reserved`: include reserved claims, because an operation may be preparing one.
    pub fn of(claims: &[Claim], reserved: bool) -> Self {
        let taken = |claim: &&Claim| reserved || claim.state != ClaimState::Reserved;
        let parts = || claims.iter().filter(taken).flat_map(|claim| &claim.parts);
        Self {
            functions: parts().flat_map(|part| part.members.iter().map(|m| m.address)).collect(),
            mdevs: parts().filter_map(|part| part.partition.as_ref()?.mdev()).collect(),
            defined: claims
                .iter()
                .flat_map(|claim| &claim.parts)
                .filter_map(|part| part.partition.as_ref().filter(|how| how.is_defined())?.mdev())
                .collect(),
            listed: claims
                .iter()
                .flat_map(|claim| claim.parts.iter().filter(|part| part.at_boot))
                .flat_map(Part::taken)
                .collect(),
        }
    }
}

impl Truth {
    pub fn new(
        expected: Snapshot,
        inventory: &model::Inventory,
        persistent: BTreeSet<Address>,
    ) -> Self {
        let groups = inventory.groups.iter();
        Self {
            expected,
            loose: BTreeSet::new(),
            groups: groups.map(|(number, group)| (*number, group.members.clone())).collect(),
            parents: BTreeMap::new(),
            persistent,
            unhealthy: BTreeSet::new(),
            undecided: BTreeSet::new(),
            may_lose: false,
        }
    }

    /// Expects the state after a reboot.
    pub fn rebooted(&mut self, now: Snapshot) {
        let definitions = std::mem::take(&mut self.expected.definitions);
        let boot_list = std::mem::take(&mut self.expected.boot_list);
        self.expected = Snapshot { definitions, boot_list, ..now };
        self.loose.clear();
    }

    /// Remembers the physical functions of virtual ones.
    pub fn see(&mut self, inventory: &model::Inventory) {
        for function in inventory.functions.values() {
            self.parents
                .extend(function.physical_function.map(|parent| (function.address, parent)));
        }
    }

    fn is_loose(&self, address: Address) -> bool {
        self.unhealthy.contains(&address)
            || self.parents.get(&address).is_some_and(|parent| self.unhealthy.contains(parent))
            || self.loose.contains(&address)
            || self.parents.get(&address).is_some_and(|parent| self.loose.contains(parent))
    }

    pub fn loosen(&mut self, address: Address) {
        self.loose.insert(address);
    }

    /// Expects a change of the host that was not made by the engine.
    pub fn changed(&mut self, before: &Snapshot, after: &Snapshot, ours: &Ours) {
        let all: BTreeSet<Address> =
            before.functions.keys().chain(after.functions.keys()).copied().collect();
        for address in all {
            let (was, is) = (before.functions.get(&address), after.functions.get(&address));
            if was == is {
                continue;
            }
            // Virtual functions that others create on a claimed function come and go with its driver, which the claim
            // changes.
            let parent = self.parents.get(&address);
            let of_ours = [Some(&address), parent].into_iter().flatten();
            self.loose.extend(of_ours.filter(|one| ours.functions.contains(one)));
            let mut is = is.cloned();
            let expected = self.expected.functions.get(&address);
            if let (Some(was), Some(is), Some(expected)) = (was, is.as_mut(), expected)
                && was.autoprobe == is.autoprobe
            {
                // A running verb may have set it, not the other tool.
                is.autoprobe = expected.autoprobe;
            }
            put(&mut self.expected.functions, address, is);
        }
        for uuid in before.mdevs.keys().chain(after.mdevs.keys()) {
            let (was, is) = (before.mdevs.get(uuid), after.mdevs.get(uuid));
            if was == is {
                continue;
            }
            let claimed = ours.mdevs.contains(uuid);
            if claimed {
                // A claim's mediated device was removed, by its name or with its parent's driver.
                self.loose.extend(was.or(is).map(|mdev| mdev.parent));
            }
            if !claimed || self.expected.mdevs.contains_key(uuid) {
                put(&mut self.expected.mdevs, *uuid, is.cloned());
            }
        }
        follow(&mut self.expected.vf_counts, &before.vf_counts, &after.vf_counts);
        follow(&mut self.expected.nodes, &before.nodes, &after.nodes);
        follow(&mut self.expected.vf_nodes, &before.vf_nodes, &after.vf_nodes);
        follow(&mut self.expected.mdev_nodes, &before.mdev_nodes, &after.mdev_nodes);
        follow(&mut self.expected.device_nodes, &before.device_nodes, &after.device_nodes);
        follow(&mut self.expected.units, &before.units, &after.units);
    }

    /// The expected VF count and autoprobe setting of a function.
    pub fn vfs_of(&self, parent: Address) -> (u16, Option<bool>) {
        count_of(&self.expected, parent)
    }

    /// Expects the current virtual functions of `parent`, after a verb set their count or tried to. The caller checks
    /// the count.
    pub fn vfs_renewed(&mut self, parent: Address, now: &Snapshot, ours: &Ours) {
        let own = |address: &Address| self.parents.get(address) == Some(&parent);
        let free = |address: &Address| own(address) && !ours.functions.contains(address);
        let expected = &mut self.expected;
        // Claimed ones keep their expected state: the claim must restore it.
        expected.functions.retain(|address, _| !free(address));
        let new = now.functions.iter().filter(|(address, _)| free(address));
        expected.functions.extend(new.map(|(address, state)| (*address, state.clone())));
        expected.vf_nodes.retain(|address, _| !free(address));
        expected.device_nodes.retain(|address, _| !free(address));
        let nodes = |from: &BTreeMap<Address, model::NodeAccess>| {
            let new = from.iter().filter(|(address, _)| free(address));
            new.map(|(address, node)| (*address, *node)).collect::<Vec<_>>()
        };
        expected.vf_nodes.extend(nodes(&now.vf_nodes));
        expected.device_nodes.extend(nodes(&now.device_nodes));
        put(&mut expected.vf_counts, parent, now.vf_counts.get(&parent).copied());
        let autoprobe = now.functions.get(&parent).and_then(|state| state.autoprobe);
        if let Some(state) = expected.functions.get_mut(&parent) {
            state.autoprobe = autoprobe.or(state.autoprobe);
        }
    }

    /// Checks that everything that is not claimed is in its expected state.
    pub fn check(&mut self, now: &Snapshot, ours: &Ours, why: &str) {
        self.note_lost(now);
        let skip = |address: &Address| ours.functions.contains(address) || self.is_loose(*address);
        same(&self.expected.functions, &now.functions, skip, "function", why);
        same(&self.expected.vf_counts, &now.vf_counts, skip, "number of virtual functions", why);
        same(&self.expected.vf_nodes, &now.vf_nodes, skip, "node of the group of", why);
        same(&self.expected.device_nodes, &now.device_nodes, skip, "node of", why);
        // No unclaimed function has a mark.
        for (address, state) in &now.functions {
            if let Some(mark) = state.mark.as_ref().filter(|_| !ours.functions.contains(address)) {
                broken(format!("{why}: {address} is not claimed but marked ({})", mark.describe()));
            }
        }
        let of_loose = |uuid: &Uuid| {
            let mdev = now.mdevs.get(uuid).or_else(|| self.expected.mdevs.get(uuid));
            mdev.is_some_and(|mdev| self.is_loose(mdev.parent))
        };
        let not_ours = |uuid: &Uuid| {
            of_loose(uuid) || ours.mdevs.contains(uuid) && !self.expected.mdevs.contains_key(uuid)
        };
        same(&self.expected.mdevs, &now.mdevs, not_ours, "mediated device", why);
        let defined = |uuid: &Uuid| ours.defined.contains(uuid);
        same(&self.expected.definitions, &now.definitions, defined, "definition of", why);
        let listed = |address: &Address| ours.listed.contains(address);
        same(&self.expected.boot_list, &now.boot_list, listed, "boot list entry of", why);
        let shared = |uuid: &Uuid| of_loose(uuid) || ours.mdevs.contains(uuid);
        same(&self.expected.mdev_nodes, &now.mdev_nodes, shared, "node of", why);
        let group = |group: &u32| self.groups.get(group).is_none_or(|all| all.iter().any(skip));
        same(&self.expected.nodes, &now.nodes, group, "node of group", why);
        if !self.persistent.iter().any(skip) {
            same(&self.expected.units, &now.units, |_| false, "unit", why);
        }
    }

    /// Stops checking functions that fell off the bus.
    fn note_lost(&mut self, now: &Snapshot) {
        if !self.may_lose {
            return;
        }
        let gone = self.expected.functions.keys().filter(|a| !now.functions.contains_key(a));
        let gone: Vec<Address> = gone.copied().collect();
        self.loose.extend(gone);
    }

    /// Checks that a prepared claim's devices are still prepared.
    pub fn check_prepared(&self, now: &Snapshot, claim: &Claim, why: &str) {
        for part in &claim.parts {
            let functions =
                part.taken().find_map(|address| self.not_prepared(now, claim.id, part, address));
            let partition = part.partition.as_ref();
            let partition = partition.and_then(|partition| self.not_made(now, partition));
            if let Some(what) = functions.or(partition) {
                broken(format!("{why}: {} is prepared, but {what}", claim.owner));
            }
        }
    }

    fn not_prepared(
        &self,
        now: &Snapshot,
        claim: Uuid,
        part: &Part,
        address: Address,
    ) -> Option<String> {
        if self.is_loose(address) {
            return None;
        }
        let Some(state) = now.functions.get(&address) else {
            return (!self.may_lose).then(|| format!("{address} is gone"));
        };
        match &state.mark {
            Some(mark) if mark.claim == claim => {}
            other => return Some(format!("{address} has the mark {other:?}")),
        }
        if part.at_boot && !now.boot_list.contains_key(&address) {
            return Some(format!("{address} is not on the boot list"));
        }
        let vfio = state.driver.as_deref() == Some("vfio-pci");
        (part.is_bound() != vfio).then(|| format!("{address} is on {:?}", state.driver))
    }

    fn not_made(&self, now: &Snapshot, partition: &Partition) -> Option<String> {
        let parent = partition.parent;
        if self.is_loose(parent) || !now.functions.contains_key(&parent) {
            return None;
        }
        match &partition.how {
            Mechanism::Mdev { uuid, define: true, existing: false, .. }
                if !now.definitions.contains_key(uuid) =>
            {
                Some(format!("{uuid} has no definition"))
            }
            Mechanism::Mdev { uuid, .. } => {
                (!now.mdevs.contains_key(uuid)).then(|| format!("{uuid} does not exist"))
            }
            Mechanism::Vgpu { function, type_id, .. } => {
                let vgpu = now.functions.get(function)?.vgpu;
                (!self.is_loose(*function) && vgpu != Some(*type_id))
                    .then(|| format!("{function} is not a vGPU of type {type_id}"))
            }
            Mechanism::Vf { .. } => None,
        }
    }
}

pub fn count_of(host: &Snapshot, parent: Address) -> (u16, Option<bool>) {
    let autoprobe = host.functions.get(&parent).and_then(|state| state.autoprobe);
    (host.vf_counts.get(&parent).copied().unwrap_or_default(), autoprobe)
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

/// Expects changes that others made.
fn follow<K: Ord + Clone, V: PartialEq + Clone>(
    expected: &mut BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) {
    for key in before.keys().chain(after.keys()) {
        if before.get(key) != after.get(key) {
            put(expected, key.clone(), after.get(key).cloned());
        }
    }
}

fn same<K: Ord + std::fmt::Display, V: PartialEq + std::fmt::Debug>(
    expected: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
    skip: impl Fn(&K) -> bool,
    what: &str,
    why: &str,
) {
    for key in expected.keys().chain(now.keys()) {
        let (was, is) = (expected.get(key), now.get(key));
        if was != is && !skip(key) {
            broken(format!(
                "{why}: {what} {key} is unclaimed and not restored:\n  expected {was:?}\n  is       {is:?}"
            ));
        }
    }
}
