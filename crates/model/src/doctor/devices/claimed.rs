//! What Handover itself has done with the devices: claims, and devices that need manual attention.

use super::{Case, Finding, Severity, with_remedy};

/// The claim or the defect that keeps the assembly from being claimed.
pub fn own(case: &Case<'_>) -> Vec<Finding> {
    let own = case.patient.own;
    let Some(refusal) = own.refusal(&case.assembly) else { return Vec::new() };
    let meaning = match own.attention(&case.assembly) {
        Some(unhealthy) if unhealthy.word == "wedged" => {
            "a step on it did not end, or could not be undone; it is not handed over until it is cleared"
        }
        Some(_) => "it failed its check; it is not handed over until it is cleared",
        None => {
            "it belongs to its owner until the claim is released; nothing has to be mended on the host"
        }
    };
    let finding = case.finding("claimed", Severity::Impossible, refusal.message, meaning);
    vec![with_remedy(finding, refusal.remedy, Vec::new())]
}
