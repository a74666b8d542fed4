//! Sets of GPUs that NVSwitch isolates as units: Fabric Manager's partitions. A machine has all GPUs of one set, or CUDA does not
//! start in it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Address;

/// The fabric sets of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FabricSets {
    /// All sets whose GPUs are known by their addresses.
    pub sets: Vec<FabricSet>,
    /// Whether Handover can activate them: Fabric Manager's program is there.
    pub can_switch: bool,
}

/// A fabric set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FabricSet {
    /// Fabric Manager's number of it.
    pub id: u32,
    /// Whether its GPUs can reach each other, and no others.
    pub is_active: bool,
    /// Its GPUs.
    pub gpus: BTreeSet<Address>,
}

impl FabricSets {
    /// Whether a GPU is in any set.
    #[must_use]
    pub fn has(&self, gpu: Address) -> bool {
        self.sets.iter().any(|set| set.gpus.contains(&gpu))
    }

    /// The set of exactly these GPUs. Sets with the same GPUs are one to us: an active one is preferred.
    #[must_use]
    pub fn of(&self, gpus: &BTreeSet<Address>) -> Option<&FabricSet> {
        let same = self.sets.iter().filter(|set| set.gpus == *gpus);
        same.min_by_key(|set| (!set.is_active, set.id))
    }

    /// An active set that shares GPUs with this one: Fabric Manager activates only sets that share none.
    #[must_use]
    pub fn in_the_way(&self, set: &FabricSet) -> Option<&FabricSet> {
        let shares = |other: &&FabricSet| other.id != set.id && !other.gpus.is_disjoint(&set.gpus);
        self.sets.iter().filter(|other| other.is_active).find(shares)
    }

    /// The sets of this many GPUs that can be activated. First those that leave most of the other sets usable.
    #[must_use]
    pub fn usable(&self, count: usize) -> Vec<&FabricSet> {
        let free = |set: &&FabricSet| self.in_the_way(set).is_none();
        let breaks = |set: &FabricSet| {
            let others = self.sets.iter().filter(|other| !other.is_active).filter(free);
            others.filter(|other| !other.gpus.is_disjoint(&set.gpus)).count()
        };
        let mut usable: Vec<&FabricSet> =
            self.sets.iter().filter(|set| set.gpus.len() == count).filter(free).collect();
        usable.sort_by_cached_key(|set| (breaks(set), set.gpus.first().copied(), set.id));
        usable
    }

    /// The numbers of GPUs that sets have, ascending.
    #[must_use]
    pub fn sizes(&self) -> BTreeSet<usize> {
        self.sets.iter().map(|set| set.gpus.len()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(module: u8) -> Address {
        format!("0000:{:02x}:00.0", 0x10 + module).parse().unwrap()
    }

    /// The 15 sets of a board with eight GPUs; these are active.
    fn board(active: &[u32]) -> FabricSets {
        let mut groups: Vec<Vec<u8>> =
            vec![(1..=8).collect(), (1..=4).collect(), (5..=8).collect()];
        groups.extend([vec![1, 3], vec![2, 4], vec![5, 7], vec![6, 8]]);
        groups.extend((1..=8).map(|module| vec![module]));
        let set = |(id, group): (u32, &Vec<u8>)| FabricSet {
            id,
            is_active: active.contains(&id),
            gpus: group.iter().map(|module| gpu(*module)).collect(),
        };
        FabricSets { sets: (0..).zip(&groups).map(set).collect(), can_switch: true }
    }

    fn ids(sets: &[&FabricSet]) -> Vec<u32> {
        sets.iter().map(|set| set.id).collect()
    }

    #[test]
    fn a_set_is_all_of_its_gpus() {
        let board = board(&[]);
        assert_eq!(board.of(&[gpu(1), gpu(3)].into()).map(|set| set.id), Some(3));
        assert_eq!(board.of(&[gpu(1), gpu(2)].into()), None);
        assert_eq!(board.sizes(), [1, 2, 4, 8].into());
        assert!(board.has(gpu(8)) && !board.has(gpu(9)));
    }

    #[test]
    fn sets_that_break_the_fewest_others_come_first() {
        // GPUs 1 and 3 are in use: a single GPU comes from the half that is broken already.
        let board = board(&[3]);
        assert_eq!(ids(&board.usable(1)), [8, 10, 11, 12, 13, 14]);
        assert_eq!(ids(&board.usable(2)), [3, 4, 5, 6]);
        assert_eq!(ids(&board.usable(4)), [2]);
        assert!(board.usable(8).is_empty());
        let all = board.sets.first().unwrap();
        assert_eq!(board.in_the_way(all).map(|set| set.id), Some(3));
    }

    #[test]
    fn an_active_set_can_be_used_as_it_is() {
        let board = board(&[1]);
        assert_eq!(ids(&board.usable(4)), [1, 2], "using it breaks no other");
    }
}
