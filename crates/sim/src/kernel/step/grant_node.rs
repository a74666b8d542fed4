//! Changing owner and mode of a VFIO node whose number is known only once it exists.

use model::{Address, NodeAccess, Observed, VfioNode};

use super::of_function;
use crate::kernel::compare::access;
use crate::kernel::{ENOENT, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOENT];

pub(super) const MISSING: &str = "no such node";

pub(super) fn observe(
    kernel: &Kernel,
    address: Address,
    node: VfioNode,
    from: &NodeAccess,
    to: &NodeAccess,
) -> Observed {
    of_function(kernel, address, |_| Some(access(&kernel.node(address, node)?, from, to)))
}

pub(super) fn make(
    kernel: &mut Kernel,
    address: Address,
    node: VfioNode,
    to: NodeAccess,
) -> Result<(), Errno> {
    kernel.grant(address, node, to)
}
