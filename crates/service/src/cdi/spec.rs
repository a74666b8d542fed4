//! The CDI spec of a claim.

use convert::cdi::{self, Claimed, Spec};

/// The spec of a claim; `None` if it is not prepared.
#[must_use]
pub fn spec(claim: &api::Claim) -> Option<Spec> {
    let attach = claim.attach.as_ref()?;
    let functions = claim.parts.iter().filter(|part| part.mdev.is_none());
    Some(cdi::claim(&Claimed {
        id: claim.id.clone(),
        functions: functions.map(|part| part.head.clone()).collect(),
        mdevs: claim.parts.iter().filter_map(|part| part.mdev.clone()).collect(),
        groups: attach.groups.clone(),
        devices: attach.devices.clone(),
    }))
}
