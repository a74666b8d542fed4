//! Assigning candidates to wishes so that as many wishes as possible are met.

/// The index of the candidate for each wish, or `None` for wishes that cannot be met: bipartite matching by augmenting
/// paths (H. W. Kuhn, 1955). `likes` lists the candidates of each wish, best first: earlier ones are preferred if no
/// other wish loses by that.
pub fn assign(likes: &[Vec<usize>], candidates: usize) -> Vec<Option<usize>> {
    let mut owner: Vec<Option<usize>> = vec![None; candidates];
    for wish in 0..likes.len() {
        let mut tried = vec![false; candidates];
        augment(wish, likes, &mut owner, &mut tried);
    }
    let mut given = vec![None; likes.len()];
    for (candidate, wish) in owner.into_iter().enumerate() {
        if let Some(slot) = wish.and_then(|wish| given.get_mut(wish)) {
            *slot = Some(candidate);
        }
    }
    given
}

fn augment(
    wish: usize,
    likes: &[Vec<usize>],
    owner: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    let Some(list) = likes.get(wish) else { return false };
    // A free one first, so that no other wish is moved without need.
    if let Some(free) = list.iter().copied().find(|one| owner.get(*one) == Some(&None)) {
        if let Some(slot) = owner.get_mut(free) {
            *slot = Some(wish);
        }
        return true;
    }
    for &candidate in list {
        match tried.get_mut(candidate) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        let other = owner.get(candidate).copied().flatten();
        if other.is_none_or(|other| augment(other, likes, owner, tried)) {
            if let Some(slot) = owner.get_mut(candidate) {
                *slot = Some(wish);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The highest number of wishes that can be met, by brute force.
    fn most(likes: &[Vec<usize>], taken: u32) -> usize {
        let Some((first, rest)) = likes.split_first() else { return 0 };
        let with = first
            .iter()
            .filter(|one| taken & (1 << **one) == 0)
            .map(|one| 1 + most(rest, taken | (1 << *one)))
            .max()
            .unwrap_or(0);
        with.max(most(rest, taken))
    }

    proptest! {
        #[test]
        fn as_many_wishes_are_met_as_can_be(
            likes in proptest::collection::vec(
                proptest::sample::subsequence((0..6usize).collect::<Vec<_>>(), 0..6), 0..6)
        ) {
            let given = assign(&likes, 6);
            let met: Vec<usize> = given.iter().flatten().copied().collect();
            let mut different = met.clone();
            different.sort_unstable();
            different.dedup();
            prop_assert_eq!(different.len(), met.len());
            for (wish, candidate) in given.iter().enumerate() {
                prop_assert!(candidate.is_none_or(|one| likes[wish].contains(&one)));
            }
            prop_assert_eq!(met.len(), most(&likes, 0));
        }
    }
}
