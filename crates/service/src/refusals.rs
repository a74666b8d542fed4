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

/// The most ignored fields that are named.
const MOST_NAMED: usize = 16;

/// Warnings of fields that a request has and Handover does not know.
pub fn ignored<'a>(fields: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut fields = fields.into_iter();
    let warning = |field: &String| {
        let field: String = field.chars().take(100).collect();
        format!("the field `{field}` is ignored: Handover does not know it")
    };
    let mut warnings: Vec<String> = fields.by_ref().take(MOST_NAMED).map(warning).collect();
    match fields.count() {
        0 => {}
        more => warnings.push(format!("{more} more fields are ignored")),
    }
    warnings
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
