//! Checks that a claim's devices are still free, healthy and the same before they are taken.

use model::choose::{expect_room, expect_type};
use model::{Address, Assembly, Claim, Code, Inventory, Mechanism, Refusal};
use uuid::Uuid;

use super::Claims;

impl Claims {
    /// Refuses a claim if one of its devices is now claimed by another or needs manual attention, or if an instance has
    /// its disk as a block device. Claims that are `leaving` do not count.
    pub(crate) fn expect_available(&self, claim: &Claim, leaving: &[Uuid]) -> Result<(), Refusal> {
        self.expect_healthy(&claim.taken().collect::<Vec<_>>())?;
        self.expect_no_blocks(claim)?;
        self.vf_counts.expect_no_change(claim)?;
        let others = self.existing_claims()?;
        let mut others = others
            .iter()
            .filter(|other| other.claim.id != claim.id && !leaving.contains(&other.claim.id));
        let clash = others.find_map(|other| claim.parts.iter().find_map(|part| other.refuse(part)));
        clash.map_or(Ok(()), Err)
    }

    /// Refuses new vGPUs for which there is no room besides those that other claims reserve. Call it with the allocation
    /// lock: their drivers know only of those that exist.
    pub(crate) fn expect_room<'a>(
        &self,
        inventory: &Inventory,
        new: impl IntoIterator<Item = &'a Claim>,
    ) -> Result<(), Refusal> {
        let new: Vec<&Claim> = new.into_iter().collect();
        let others = self.existing_claims()?;
        let is_other = |claim: &Claim| new.iter().all(|one| one.id != claim.id);
        let others = others.iter().map(|other| &other.claim).filter(|claim| is_other(claim));
        let parts = new.iter().flat_map(|claim| &claim.parts);
        expect_room(inventory, others, parts.filter_map(|part| part.partition.as_ref()))
    }

    /// The same by the hardware as it is now, which is read only if a claim has a partition.
    pub(crate) fn expect_room_now(&self, new: &[&Claim]) -> Result<(), Refusal> {
        let mut parts = new.iter().flat_map(|claim| &claim.parts);
        if parts.all(|part| part.partition.is_none()) {
            return Ok(());
        }
        self.expect_room(&self.hardware.inventory()?, new.iter().copied())
    }

    /// Refuses a reserved claim of a new mediated device whose type its parent no longer offers: the vendor's driver, or
    /// another tool, can change that.
    pub(crate) fn expect_types_offered(
        &self,
        inventory: &Inventory,
        claim: &Claim,
    ) -> Result<(), Refusal> {
        let created = |part: &model::Part| match &part.partition.as_ref()?.how {
            Mechanism::Mdev { existing: false, type_id, .. } => Some((part.head, type_id.clone())),
            _ => None,
        };
        let created: Vec<(Address, String)> = claim.parts.iter().filter_map(created).collect();
        if created.is_empty() {
            return Ok(());
        }
        let mut inventory = inventory.clone();
        let parents: Vec<Address> = created.iter().map(|(parent, _)| *parent).collect();
        self.hardware.host.offers(&mut inventory, &parents);
        for (parent, type_id) in created {
            let function = inventory.function(parent);
            let function = function.ok_or_else(|| model::no_such_function(parent))?;
            if let Some(detail) = &function.detail {
                expect_type(detail, parent, &type_id)?;
            }
        }
        Ok(())
    }

    /// Refuses functions that need manual attention.
    pub(crate) fn expect_healthy(&self, functions: &[Address]) -> Result<(), Refusal> {
        let unhealthy = self.unhealthy()?;
        let found = functions.iter().find_map(|address| unhealthy.get(address).cloned());
        found.map_or(Ok(()), Err)
    }

    /// Refuses a claim that no longer covers its assemblies: IOMMU groups and drivers can change at a reboot.
    pub(crate) fn expect_same_assembly(
        &self,
        inventory: &Inventory,
        claim: &Claim,
    ) -> Result<(), Refusal> {
        for part in claim.parts.iter().filter(|part| part.is_bound()) {
            let head = part.head;
            // A function that was claimed alone stays alone.
            let alone = Assembly::alone(inventory, head);
            let alone = alone.ok_or_else(|| model::no_such_function(head))?;
            if let Some(obstacle) = alone.obstacles(inventory).into_iter().next() {
                return Err(obstacle);
            }
            let companions: Vec<Address> = part.guests().map(|member| member.address).collect();
            let groups =
                companions.iter().filter_map(|address| Assembly::alone(inventory, *address));
            let mut needed = groups
                .flat_map(|assembly| assembly.members)
                .filter(|member| member.role.is_taken() && !claim.holds(member.address));
            if let Some(new) = needed.next() {
                return Err(Refusal::new(
                    Code::InvalidState,
                    format!(
                        "{head} must now be handed over with {} ({}), which this claim does not include",
                        new.address, new.reason
                    ),
                    "release the claim and claim again; for an instance: delete it and create it again",
                ));
            }
        }
        Ok(())
    }
}
