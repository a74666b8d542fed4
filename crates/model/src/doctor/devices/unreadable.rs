//! What could not be read of the devices of the assembly.

use super::{Case, Finding, Severity, about};

/// One finding for each member that was not read whole.
pub fn notes(case: &Case<'_>) -> Vec<Finding> {
    case.taken()
        .filter(|function| !function.notes.is_empty())
        .map(|function| {
            let read = format!("{}: {}", function.address, function.notes.join("; "));
            let meaning = "what depends on it is not known, and was not examined";
            about(function.address, "unreadable", Severity::Unseen, read, meaning)
        })
        .collect()
}
