//! Compares the host's state with the values before and after a step.

use std::fmt::Debug;

use model::{NodeAccess, Observed};

/// There are only two states: what is not as after is as before.
pub(super) fn before_or_after(after: bool) -> Observed {
    if after { Observed::After } else { Observed::Before }
}

pub(super) fn compare<T: PartialEq + Debug>(now: &T, before: &T, after: &T) -> Observed {
    if now == after {
        Observed::After
    } else if now == before {
        Observed::Before
    } else {
        Observed::Other(format!("{now:?}"))
    }
}

/// udev may set another mode on a new node by the administrator's rules. While root owns it, it is not granted yet.
pub(super) fn access(now: &NodeAccess, from: &NodeAccess, to: &NodeAccess) -> Observed {
    let root = NodeAccess::KERNEL_DEFAULT.uid;
    if now != to && from.uid == root && now.uid == root {
        return Observed::Before;
    }
    compare(now, from, to)
}
