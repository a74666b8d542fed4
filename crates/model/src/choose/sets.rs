//! Choosing sets: which candidates meet all wishes, closest together, and leave the others least fragmented.
//!
//! The distance of two devices depends only on the lowest place of the tree that both are below, so the best set can be found
//! from the leaves up: for each place, the best way to take each number of devices below it. This is exact, and takes
//! about as many steps as the product of the number of devices and the number that is wanted.

use std::collections::BTreeMap;

use crate::topology::{Distance, Place};

/// A candidate that a wish likes.
#[derive(Clone, Copy, Debug)]
pub struct Like {
    /// Its index among the places.
    pub candidate: usize,
    /// What it costs before distances count: a device that should not be split further.
    pub before: u32,
    /// What it costs after distances: a device whose driver would have to be unbound.
    pub after: u32,
}

/// A wish: how many of which candidates.
#[derive(Clone, Debug)]
pub struct Quota {
    /// How many.
    pub count: usize,
    /// The candidates.
    pub likes: Vec<Like>,
}

/// What a choice costs, the most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    before: u32,
    /// The distances between all pairs of chosen devices.
    distance: u32,
    /// The distances between all pairs of candidates that are left.
    rest: u32,
    after: u32,
    /// Earlier addresses first.
    order: u32,
}

/// More combinations of counts than this are not searched: a request of a dozen wishes.
const MOST_STATES: usize = 2048;

/// The best choice: for each wish, its candidates; with its cost. `None` if the wishes cannot all be met, or are too many to
/// search. `anchors` are devices that are chosen in any case.
pub fn best(
    places: &[Place],
    anchors: &[Place],
    quotas: &[Quota],
) -> Option<(Cost, Vec<Vec<usize>>)> {
    let counts = Counts::of(quotas)?;
    let mut search = Search { counts, nodes: Vec::new() };
    let mut liked: Vec<Vec<(usize, Like)>> = vec![Vec::new(); places.len()];
    for (wish, quota) in quotas.iter().enumerate().filter(|(_, quota)| quota.count > 0) {
        for like in &quota.likes {
            if let Some(list) = liked.get_mut(like.candidate) {
                list.push((wish, *like));
            }
        }
    }
    let mut leaves: Vec<(&Place, usize)> = Vec::new();
    for (index, (place, likes)) in places.iter().zip(&liked).enumerate() {
        // What no wish likes is not a part of the rest either.
        if !likes.is_empty() {
            leaves.push((place, search.leaf(index, likes)));
        }
    }
    for place in anchors {
        let node = search.anchor();
        leaves.push((place, node));
    }
    leaves.sort_by_key(|(place, _)| *place);
    let top = search.build(&leaves, 0)?;
    let node = search.nodes.get(top)?;
    let whole = search.counts.whole();
    let entry = node.entries.iter().position(|entry| entry.state == whole)?;
    let cost = node.entries.get(entry)?.cost;
    let mut chosen = vec![Vec::new(); quotas.len()];
    search.trace(top, entry, &mut chosen);
    chosen.iter_mut().for_each(|list| list.sort_unstable());
    Some((cost, chosen))
}

/// The combinations of counts, as numbers: the digits are how many each wish has got.
struct Counts {
    /// The value of one device of each wish.
    steps: Vec<usize>,
    limits: Vec<usize>,
}

impl Counts {
    fn of(quotas: &[Quota]) -> Option<Self> {
        let mut steps = Vec::new();
        let mut states = 1usize;
        for quota in quotas {
            steps.push(states);
            states = states.checked_mul(quota.count.checked_add(1)?)?;
        }
        let limits: Vec<usize> = quotas.iter().map(|quota| quota.count).collect();
        (states <= MOST_STATES || quotas.len() == 1).then_some(Self { steps, limits })
    }

    fn whole(&self) -> usize {
        self.steps.iter().zip(&self.limits).map(|(step, limit)| step * limit).sum()
    }

    /// How many devices a state has in all; `None` if two states together have more of a wish than it wants.
    fn sum(&self, one: usize, other: usize) -> Option<usize> {
        let digit = |state: usize, step: usize, limit: usize| state / step % (limit + 1);
        let fits =
            self.steps.iter().zip(&self.limits).all(|(step, limit)| {
                digit(one, *step, *limit) + digit(other, *step, *limit) <= *limit
            });
        fits.then_some(one + other)
    }

    fn step(&self, wish: usize) -> usize {
        self.steps.get(wish).copied().unwrap_or(0)
    }
}

/// A part of the tree with the best way to reach each state.
struct Node {
    entries: Vec<Entry>,
    /// The number of candidates in it.
    leaves: u32,
    /// The number of devices in it that are chosen in any case.
    anchors: u32,
    made: Made,
}

#[derive(Clone, Copy)]
struct Entry {
    state: usize,
    /// The number of chosen candidates.
    taken: u32,
    cost: Cost,
    /// The entries of the two parts; for a leaf, the wish that takes it.
    from: (usize, usize),
}

impl Entry {
    /// Nothing is taken.
    const NONE: Self = Self {
        state: 0,
        taken: 0,
        cost: Cost { before: 0, distance: 0, rest: 0, after: 0, order: 0 },
        from: (0, 0),
    };
}

#[derive(Clone, Copy)]
enum Made {
    Leaf(Option<usize>),
    Merged(usize, usize),
}

struct Search {
    counts: Counts,
    nodes: Vec<Node>,
}

impl Search {
    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn leaf(&mut self, candidate: usize, likes: &[(usize, Like)]) -> usize {
        let mut entries = vec![Entry::NONE];
        for (wish, like) in likes {
            let order = u32::try_from(candidate).unwrap_or(u32::MAX);
            let cost = Cost { before: like.before, after: like.after, order, ..Cost::default() };
            entries.push(Entry {
                state: self.counts.step(*wish),
                taken: 1,
                cost,
                from: (*wish, 0),
            });
        }
        self.add(Node { entries, leaves: 1, anchors: 0, made: Made::Leaf(Some(candidate)) })
    }

    fn anchor(&mut self) -> usize {
        self.add(Node { entries: vec![Entry::NONE], leaves: 0, anchors: 1, made: Made::Leaf(None) })
    }

    /// The node of these leaves, which are sorted and below the same place at this depth.
    fn build(&mut self, leaves: &[(&Place, usize)], depth: usize) -> Option<usize> {
        if let [(_, only)] = leaves {
            return Some(*only);
        }
        let (first, _) = leaves.first()?;
        let distance = first.distance_below(depth);
        let mut whole = None;
        let key = |leaf: &(&Place, usize)| leaf.0.ancestor(depth);
        for group in leaves.chunk_by(|one, other| key(one) == key(other)) {
            let ends = group.first().is_none_or(|leaf| key(leaf).is_none());
            let part = if ends {
                // The same place: functions of one slot, or partitions of one device.
                let mut all = None;
                for (_, leaf) in group {
                    all = Some(self.merged(all, *leaf, Distance::SameSlot));
                }
                all?
            } else {
                self.build(group, depth + 1)?
            };
            whole = Some(self.merged(whole, part, distance));
        }
        whole
    }

    fn merged(&mut self, one: Option<usize>, other: usize, distance: Distance) -> usize {
        let Some(one) = one else { return other };
        let (Some(left), Some(right)) = (self.nodes.get(one), self.nodes.get(other)) else {
            return other;
        };
        let weight = distance.cost();
        let mut best: BTreeMap<usize, Entry> = BTreeMap::new();
        for (at, a) in left.entries.iter().enumerate() {
            for (to, b) in right.entries.iter().enumerate() {
                let Some(state) = self.counts.sum(a.state, b.state) else { continue };
                let near = (a.taken + left.anchors) * (b.taken + right.anchors);
                let rest = (left.leaves - a.taken) * (right.leaves - b.taken);
                let cost = Cost {
                    before: a.cost.before + b.cost.before,
                    distance: a.cost.distance + b.cost.distance + weight * near,
                    rest: a.cost.rest + b.cost.rest + weight * rest,
                    after: a.cost.after + b.cost.after,
                    order: a.cost.order.saturating_add(b.cost.order),
                };
                let entry = Entry { state, taken: a.taken + b.taken, cost, from: (at, to) };
                let known = best.entry(state).or_insert(entry);
                if cost < known.cost {
                    *known = entry;
                }
            }
        }
        let (leaves, anchors) = (left.leaves + right.leaves, left.anchors + right.anchors);
        let entries = best.into_values().collect();
        self.add(Node { entries, leaves, anchors, made: Made::Merged(one, other) })
    }

    /// Collects what an entry chose.
    fn trace(&self, top: usize, entry: usize, chosen: &mut [Vec<usize>]) {
        let mut open = vec![(top, entry)];
        while let Some((node, entry)) = open.pop() {
            let Some(node) = self.nodes.get(node) else { continue };
            let Some(entry) = node.entries.get(entry) else { continue };
            match node.made {
                Made::Merged(one, other) => {
                    open.push((one, entry.from.0));
                    open.push((other, entry.from.1));
                }
                Made::Leaf(Some(candidate)) if entry.taken > 0 => {
                    if let Some(list) = chosen.get_mut(entry.from.0) {
                        list.push(candidate);
                    }
                }
                Made::Leaf(_) => {}
            }
        }
    }
}
