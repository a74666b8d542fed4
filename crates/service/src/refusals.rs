//! Refusals that several requests share.

use model::{Code, Refusal};

/// A request that cannot be read.
pub fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidRequest, message, remedy)
}

/// A part of an interface that Handover does not have.
pub fn not_implemented(what: &str, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::NotImplemented, format!("Handover has no {what}"), remedy)
}
