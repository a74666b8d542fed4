//! A wish with its candidates.

use std::collections::BTreeMap;

use super::Want;
use crate::{Address, Id, Refusal};

/// Vendor and device id.
pub(super) type Model = (Id, Id);

/// A wish that several candidates can meet.
pub(super) struct Wish<'a> {
    pub(super) place: usize,
    pub(super) want: &'a Want,
    /// Each with its rank: those with a lower one are preferred to any nearness.
    pub(super) likes: Vec<(usize, u32)>,
    /// For candidates shared with other wishes: this wish's own form of it.
    pub(super) own: BTreeMap<usize, usize>,
    /// How many candidates fit, available or not.
    pub(super) fitting: usize,
    /// Why fitting candidates are not available.
    pub(super) reasons: Vec<Refusal>,
    /// Displays of the host that would fit, if the request meant them.
    pub(super) displays: Vec<(Address, Model)>,
}
