//! Refusals that several requests share.

use engine::RecoveryTask;
use model::{Code, Refusal};

/// An invalid request.
pub fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidRequest, message, remedy)
}

/// A part of the API that Handover does not implement.
pub fn not_implemented(what: &str, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::NotImplemented, format!("Handover does not support {what}"), remedy)
}

/// A change that was requested before recovery has ended.
#[must_use]
pub fn starting(recovering: &[RecoveryTask]) -> Refusal {
    let tasks: Vec<String> = recovering.iter().map(RecoveryTask::describe).collect();
    let tasks = if tasks.is_empty() { String::new() } else { format!(": {}", tasks.join(", ")) };
    Refusal::new(
        Code::Starting,
        format!("the daemon is starting and recovers interrupted operations{tasks}"),
        "retry in a few seconds; GET /health and `systemctl status handover` show what the daemon waits for",
    )
}
