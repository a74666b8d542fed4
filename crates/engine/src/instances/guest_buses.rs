//! The buses that are chosen for devices in a guest.

use model::{Code, GuestBus, Refusal};

use crate::store::StoredClaim;

/// The bus that was chosen for a claim's device in the guest.
pub(super) fn guest_bus(claim: &StoredClaim) -> Option<GuestBus> {
    claim.wants.first().and_then(|want| want.guest)
}

/// Refuses devices of one machine that are to have the same address in the guest.
pub(super) fn expect_own_buses<'a>(
    claims: impl Iterator<Item = &'a StoredClaim>,
) -> Result<(), Refusal> {
    let mut taken: Vec<(GuestBus, String)> = Vec::new();
    for (bus, claim) in claims.filter_map(|claim| Some((guest_bus(claim)?, claim))) {
        if let Some((_, other)) = taken.iter().find(|(other, _)| *other == bus) {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!(
                    "{other} and {} are both to have the address {bus} in the guest",
                    device(claim)
                ),
                "give each its own `guest=`, or leave it out",
            ));
        }
        taken.push((bus, device(claim)));
    }
    Ok(())
}

/// A claim's device, in words.
fn device(claim: &StoredClaim) -> String {
    claim.claim.head().map_or_else(|| claim.claim.id.to_string(), |head| head.to_string())
}
