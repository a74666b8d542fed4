//! Whether a claim's devices are still free, healthy and the same when they are to be taken.

use model::{Address, Assembly, Claim, Code, Inventory, Refusal};

use super::Claims;

impl Claims {
    /// Refuses a claim of which something is claimed by others by now, or waits for a person.
    pub(crate) fn expect_available(&self, claim: &Claim) -> Result<(), Refusal> {
        self.expect_healthy(&claim.taken().collect::<Vec<_>>())?;
        self.vf_counts.expect_settled(claim)?;
        let others = self.held_by_claims()?;
        let clash = others.into_iter().find(|other| {
            other.claim.id != claim.id
                && claim.parts.iter().any(|part| other.claim.conflict(part).is_some())
        });
        clash.map_or(Ok(()), |other| Err(other.why))
    }

    /// Refuses functions that wait for a person.
    pub(crate) fn expect_healthy(&self, functions: &[Address]) -> Result<(), Refusal> {
        let unwell = self.unwell()?;
        let found = functions.iter().find_map(|address| unwell.get(address).cloned());
        found.map_or(Ok(()), Err)
    }

    /// Refuses a claim that does not cover its assemblies any more: groups and drivers can change over a restart.
    pub(crate) fn expect_same_assembly(
        &self,
        inventory: &Inventory,
        claim: &Claim,
    ) -> Result<(), Refusal> {
        for part in claim.parts.iter().filter(|part| part.is_bound()) {
            let head = part.head;
            // One that was claimed alone stays alone.
            let alone = Assembly::alone(inventory, head);
            let alone = alone.ok_or_else(|| model::no_such_function(head))?;
            if let Some(obstacle) = alone.obstacles(inventory).into_iter().next() {
                return Err(obstacle);
            }
            let companions: Vec<Address> = part.guests().map(|member| member.address).collect();
            let groups =
                companions.iter().filter_map(|address| Assembly::alone(inventory, *address));
            let mut needed = groups.flat_map(|assembly| assembly.members).filter(|member| {
                member.role != model::Role::Bystander && !claim.holds(member.address)
            });
            if let Some(new) = needed.next() {
                return Err(Refusal::new(
                    Code::InvalidState,
                    format!(
                        "{head} now goes together with {} ({}), which this claim does not have",
                        new.address, new.reason
                    ),
                    "release it and claim it again; an instance: delete it and create it again",
                ));
            }
        }
        Ok(())
    }
}
