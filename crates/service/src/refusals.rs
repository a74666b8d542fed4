//! Refusals that several requests share.

use model::{Code, Refusal};

/// An invalid request.
pub fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidRequest, message, remedy)
}

/// A part of the API that Handover does not implement.
pub fn not_implemented(what: &str, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::NotImplemented, format!("Handover does not support {what}"), remedy)
}
