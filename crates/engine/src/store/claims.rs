//! Claims.

use model::{Claim, ClaimState, Owner};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::{json, text, to_json, word};

/// The owner of a claim whose instance is gone, but whose devices could not be given back.
const WAITING: &str = "undo";

/// A claim as it is kept.
#[derive(Clone, Debug)]
pub struct StoredClaim {
    pub claim: Claim,
    /// The registration it was made by.
    pub device: Uuid,
    /// Its turn among the owner's claims.
    pub position: u32,
}

impl StoredClaim {
    pub fn insert(&self, to: &Connection) -> rusqlite::Result<()> {
        let claim = &self.claim;
        to.execute(
            "INSERT INTO claims (id, owner_kind, owner_id, position, device, head, state, boot_id, members)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                claim.id.to_string(),
                claim.owner.kind,
                claim.owner.id,
                self.position,
                self.device.to_string(),
                claim.head.to_string(),
                claim.state.as_str(),
                claim.boot_id,
                to_json(&claim.members)?,
            ],
        )?;
        Ok(())
    }

    /// Writes what changes in the life of a claim.
    pub fn update(&self, to: &Connection) -> rusqlite::Result<()> {
        let claim = &self.claim;
        to.execute(
            "UPDATE claims SET state = ?, boot_id = ?, members = ? WHERE id = ?",
            params![
                claim.state.as_str(),
                claim.boot_id,
                to_json(&claim.members)?,
                claim.id.to_string()
            ],
        )?;
        Ok(())
    }

    pub fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM claims ORDER BY owner_id, position")?
            .query_map([], Self::read)?
            .collect()
    }

    pub fn of_instance(from: &Connection, instance: Uuid) -> rusqlite::Result<Vec<Self>> {
        let owner = Owner::instance(instance);
        from.prepare_cached(
            "SELECT * FROM claims WHERE owner_kind = ? AND owner_id = ? ORDER BY position",
        )?
        .query_map([owner.kind, owner.id], Self::read)?
        .collect()
    }

    /// Removes an instance's claims. A wedged one stays until its devices are given back, with an owner that says so.
    pub fn release_instance(to: &Connection, instance: Uuid) -> rusqlite::Result<()> {
        let owner = Owner::instance(instance);
        to.execute(
            "UPDATE claims SET owner_kind = ? WHERE owner_kind = ? AND owner_id = ? AND state = ?",
            params![WAITING, owner.kind, owner.id, ClaimState::Wedged.as_str()],
        )?;
        to.execute(
            "DELETE FROM claims WHERE owner_kind = ? AND owner_id = ?",
            [owner.kind, owner.id],
        )
        .map(drop)
    }

    pub fn delete(from: &Connection, id: Uuid) -> rusqlite::Result<()> {
        from.execute("DELETE FROM claims WHERE id = ?", [id.to_string()]).map(drop)
    }

    /// Claims that were prepared in an earlier boot are as if they had never been.
    pub fn forget_other_boots(to: &Connection, boot: &str) -> rusqlite::Result<()> {
        to.execute(
            "UPDATE claims SET state = ?, boot_id = NULL WHERE boot_id IS NOT NULL AND boot_id <> ?",
            [ClaimState::Reserved.as_str(), boot],
        )?;
        to.execute(
            "DELETE FROM claims WHERE owner_kind = ? AND state = ?",
            [WAITING, ClaimState::Reserved.as_str()],
        )
        .map(drop)
    }

    /// The instance that has the claim, while it is there.
    pub fn instance(&self) -> Option<Uuid> {
        (self.claim.owner.kind != WAITING).then(|| self.claim.owner.id.parse().ok()).flatten()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            device: text(row, "device")?,
            position: row.get("position")?,
            claim: Claim {
                id: text(row, "id")?,
                owner: Owner { kind: row.get("owner_kind")?, id: row.get("owner_id")? },
                head: text(row, "head")?,
                members: json(row, "members")?,
                state: word(row, "state")?,
                boot_id: row.get("boot_id")?,
            },
        })
    }
}
