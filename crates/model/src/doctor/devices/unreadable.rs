//! What could not be read of the assembly's devices.

use super::{Case, Finding, Severity, about};

/// One finding for each member that was not fully read.
pub fn notes(case: &Case<'_>) -> Vec<Finding> {
    case.taken()
        .filter(|function| !function.notes.is_empty())
        .map(|function| {
            let read = format!("{}: {}", function.address, function.notes.join("; "));
            let meaning = "checks that need it were skipped";
            about(function.address, "unreadable", Severity::Unseen, read, meaning)
        })
        .collect()
}
