//! What the host shows, compared with before and after.

use std::fmt::Debug;

use model::{NodeAccess, Observed};

/// There are two states only: what is not as after is as before.
pub(super) fn told(after: bool) -> Observed {
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

/// udev may have given a new node another mode by the administrator's rules. While root owns it, nobody has it yet.
pub(super) fn access(now: &NodeAccess, from: &NodeAccess, to: &NodeAccess) -> Observed {
    let root = NodeAccess::KERNEL_DEFAULT.uid;
    if now != to && from.uid == root && now.uid == root {
        return Observed::Before;
    }
    compare(now, from, to)
}
