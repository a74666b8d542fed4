//! Changing owner and mode of an IOMMU group's node.

use model::{Address, NodeAccess, Observed};

use super::of_function;
use crate::kernel::compare::access;
use crate::kernel::{ENOENT, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOENT];

pub(super) const MISSING: &str = "no such node";

pub(super) fn observe(
    kernel: &Kernel,
    address: Address,
    group: u32,
    from: &NodeAccess,
    to: &NodeAccess,
) -> Observed {
    of_function(kernel, address, |_| match kernel.group_of(address) {
        Some(now) if now != group => {
            Some(Observed::Other(format!("{address} in IOMMU group {now}")))
        }
        _ => Some(access(kernel.nodes.get(&group)?, from, to)),
    })
}

pub(super) fn make(kernel: &mut Kernel, group: u32, to: NodeAccess) -> Result<(), Errno> {
    kernel.grant_group(group, to)
}
