//! What could not be read of the assembly's devices and of their IOMMU group.

use super::{Case, Finding, Severity, about, listed};

/// One finding for each member that was not fully read, and one for their group.
pub fn notes(case: &Case<'_>) -> Vec<Finding> {
    let functions = case.taken().filter(|function| !function.notes.is_empty()).map(|function| {
        let read = format!("{}: {}", function.address, function.notes.join("; "));
        let meaning = "checks that need it were skipped";
        about(function.address, "unreadable", Severity::Unseen, read, meaning)
    });
    functions.chain(of_group(case)).collect()
}

/// The type of the group says how its DMA is translated; `reserved_regions` (Linux 4.12) has memory that the firmware keeps
/// for itself, which prevents a hand-over.
fn of_group(case: &Case<'_>) -> Option<Finding> {
    let group = case.patient.inventory.groups.get(&case.head.iommu_group?)?;
    if group.notes.is_empty() {
        return None;
    }
    // Without the group's number, equal findings of several devices become one.
    let read = format!("the IOMMU group of {}: {}", case.head.address, listed(&group.notes));
    let meaning = "memory of the firmware (RMRR) and the way of DMA were not fully checked; an older kernel or an older recording \
                   does not have these files";
    Some(about(case.head.address, "unreadable", Severity::Unseen, read, meaning))
}
