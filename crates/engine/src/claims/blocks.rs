//! Claims and block devices: a drive is either a device of one machine, or a disk of another.

use std::collections::BTreeMap;
use std::path::Path;

use model::{Address, Claim, Code, GuestDisk, Refusal};
use rusqlite::Connection;

use super::Claims;
use crate::store::{StoredClaim, StoredInstance};

impl Claims {
    /// The functions by which block devices of instances exist, each with the refusal for a claim.
    pub(super) fn under_blocks(&self) -> Result<BTreeMap<Address, Refusal>, Refusal> {
        self.store.read(under_blocks)
    }

    /// Refuses a claim that takes the block device of an instance away.
    pub(super) fn expect_no_blocks(&self, claim: &Claim) -> Result<(), Refusal> {
        let blocks = self.under_blocks()?;
        let found = claim.lost().find_map(|address| blocks.get(&address).cloned());
        found.map_or(Ok(()), Err)
    }

    /// Refuses a block device that exists by a function of a claim: a recorded one, or a `new` one.
    pub(crate) fn expect_unclaimed(
        &self,
        path: &Path,
        functions: &[Address],
        new: &[StoredClaim],
    ) -> Result<(), Refusal> {
        let own = |claim: &Claim| claim.lost().find(|address| functions.contains(address));
        if let Some(address) = new.iter().find_map(|claim| own(&claim.claim)) {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!(
                    "{} is a disk of {address}, and the machine would have that device too",
                    path.display()
                ),
                "give it one of them: the device, or its disk",
            ));
        }
        for other in self.existing_claims()? {
            if let Some(address) = own(&other.claim) {
                return Err(Refusal {
                    message: format!(
                        "{} is a disk of {address}, which {}",
                        path.display(),
                        other.why.message
                    ),
                    ..other.why
                });
            }
        }
        Ok(())
    }
}

fn under_blocks(from: &Connection) -> rusqlite::Result<BTreeMap<Address, Refusal>> {
    let mut found = BTreeMap::new();
    for row in StoredInstance::all(from)? {
        let name = &row.instance.name;
        for block in row.instance.options.disks.iter().filter_map(GuestDisk::block) {
            for address in &block.functions {
                let path = block.path.display();
                let why = Refusal::new(
                    Code::InUse,
                    format!("the instance {name:?} has {path}, a disk of {address}"),
                    format!(
                        "`handover instance detach {name} {path}` takes it away from the stopped instance"
                    ),
                );
                found.insert(*address, why);
            }
        }
    }
    Ok(found)
}
