//! Choosing among functions that are given, without plans or claims: as for a claim, those that are close together.

use super::matching::assign;
use super::sets::{self, Like, Quota};
use crate::topology::Place;
use crate::{Function, Inventory};

/// The candidate for each wish, by index, or `None` for wishes that cannot be met. `likes` has the candidates of each wish.
/// If all can be met, the choice is the one with the smallest distances.
#[must_use]
pub fn nearest(
    inventory: &Inventory,
    candidates: &[&Function],
    likes: &[Vec<usize>],
) -> Vec<Option<usize>> {
    // Equal wishes are one with a count, which is faster to search.
    let mut quotas: Vec<Quota> = Vec::new();
    let mut alike: Vec<(&Vec<usize>, Vec<usize>)> = Vec::new();
    for (wish, list) in likes.iter().enumerate() {
        match alike.iter_mut().find(|(known, _)| *known == list) {
            Some((_, wishes)) => wishes.push(wish),
            None => alike.push((list, vec![wish])),
        }
    }
    for (list, wishes) in &alike {
        let like = |candidate: &usize| Like { candidate: *candidate, before: 0, after: 0 };
        quotas.push(Quota { count: wishes.len(), likes: list.iter().map(like).collect() });
    }
    let places: Vec<Place> =
        candidates.iter().map(|function| Place::of(inventory, function)).collect();
    let Some((_, chosen)) = sets::best(&places, &[], &quotas) else {
        return assign(likes, candidates.len());
    };
    let mut given = vec![None; likes.len()];
    for ((_, wishes), list) in alike.into_iter().zip(chosen) {
        for (wish, candidate) in wishes.into_iter().zip(list) {
            if let Some(place) = given.get_mut(wish) {
                *place = Some(candidate);
            }
        }
    }
    given
}
