//! Claims in the store.

use jiff::Timestamp;
use model::choose::{Want, WantKind};
use model::{Address, Claim, ClaimState, LinkBaseline, Owner};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{json, optional_text, run, text, to_json, word};

/// The owner kind of an orphan: a claim that was released but whose devices could not be restored.
const ORPHAN: &str = "undo";

/// A claim as stored.
#[derive(Clone, Debug)]
pub struct StoredClaim {
    pub claim: Claim,
    /// Id of the registered device, if an instance requested one.
    pub device: Option<Uuid>,
    /// Its position among the owner's claims.
    pub position: u32,
    /// The wants of the request.
    pub wants: Vec<Want>,
    /// Whether companions in other IOMMU groups are left out.
    pub alone: bool,
    /// User id that may open its device nodes, while it is prepared.
    pub uid: Option<u32>,
    pub created_at: Timestamp,
}

impl StoredClaim {
    pub fn insert(&self, to: &Connection) -> rusqlite::Result<()> {
        let claim = &self.claim;
        run(
            to,
            "INSERT INTO claims (id, owner_kind, owner_id, position, device, reason, expires, wants, state, boot_id,
             parts, alone, uid, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                claim.id.to_string(),
                claim.owner.kind,
                claim.owner.id,
                self.position,
                self.device.map(|id| id.to_string()),
                claim.reason,
                claim.expires.map(super::signed),
                to_json(&self.wants)?,
                claim.state.as_str(),
                claim.boot_id,
                to_json(&claim.parts)?,
                self.alone,
                self.uid,
                self.created_at.to_string(),
            ],
        )?;
        Ok(())
    }

    /// Writes the place of its devices among those of its instance.
    pub fn update_position(&self, to: &Connection) -> rusqlite::Result<()> {
        let values = params![self.position, self.claim.id.to_string()];
        run(to, "UPDATE claims SET position = ? WHERE id = ?", values).map(drop)
    }

    /// Writes the fields that change during the life of a claim.
    pub fn update(&self, to: &Connection) -> rusqlite::Result<()> {
        let claim = &self.claim;
        to.prepare_cached(
            "UPDATE claims SET state = ?, boot_id = ?, parts = ?, expires = ?, uid = ? WHERE id = ?",
        )?
        .execute(params![
            claim.state.as_str(),
            claim.boot_id,
            to_json(&claim.parts)?,
            claim.expires.map(super::signed),
            self.uid,
            claim.id.to_string()
        ])
        .map(drop)
    }

    pub fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM claims ORDER BY owner_kind, owner_id, position")?
            .query_map([], Self::read)?
            .collect()
    }

    pub fn by_id(from: &Connection, id: Uuid) -> rusqlite::Result<Option<Self>> {
        from.prepare_cached("SELECT * FROM claims WHERE id = ?")?
            .query_row([id.to_string()], Self::read)
            .optional()
    }

    pub fn of_owner(from: &Connection, owner: &Owner) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached(
            "SELECT * FROM claims WHERE owner_kind = ? AND owner_id = ? ORDER BY position",
        )?
        .query_map([&owner.kind, &owner.id], Self::read)?
        .collect()
    }

    pub fn of_instance(from: &Connection, instance: Uuid) -> rusqlite::Result<Vec<Self>> {
        Self::of_owner(from, &Owner::instance(instance))
    }

    /// Removes an instance's claims. A wedged claim becomes an orphan until its devices are restored.
    pub fn release_instance(to: &Connection, instance: Uuid) -> rusqlite::Result<()> {
        let owner = Owner::instance(instance);
        run(
            to,
            "UPDATE claims SET owner_kind = ? WHERE owner_kind = ? AND owner_id = ? AND state = ?",
            params![ORPHAN, owner.kind, owner.id, ClaimState::Wedged.as_str()],
        )?;
        run(to, "DELETE FROM claims WHERE owner_kind = ? AND owner_id = ?", [owner.kind, owner.id])
            .map(drop)
    }

    /// Removes a claim. A wedged claim becomes an orphan until its devices are restored.
    pub fn release(to: &Connection, id: Uuid) -> rusqlite::Result<()> {
        run(
            to,
            "UPDATE claims SET owner_kind = ? WHERE id = ? AND state = ?",
            params![ORPHAN, id.to_string(), ClaimState::Wedged.as_str()],
        )?;
        run(
            to,
            "DELETE FROM claims WHERE id = ? AND owner_kind <> ?",
            params![id.to_string(), ORPHAN],
        )
        .map(drop)
    }

    pub fn delete(from: &Connection, id: Uuid) -> rusqlite::Result<()> {
        run(from, "DELETE FROM claims WHERE id = ?", [id.to_string()]).map(drop)
    }

    /// Makes claims that were prepared in an earlier boot reserved again, and removes orphans of earlier boots, except
    /// those with steps that outlast a boot and are not undone.
    pub fn forget_other_boots(to: &Connection, boot: &str) -> rusqlite::Result<()> {
        run(
            to,
            "UPDATE claims SET boot_id = ?1 WHERE owner_kind = ?2 AND boot_id <> ?1
             AND id IN (SELECT claim FROM steps WHERE boot_id = ?1 AND restoring = 0
                        AND state IN ('intended', 'done', 'failed'))",
            [boot, ORPHAN],
        )?;
        run(
            to,
            "UPDATE claims SET state = ?, boot_id = NULL, uid = NULL WHERE boot_id IS NOT NULL AND boot_id <> ?",
            [ClaimState::Reserved.as_str(), boot],
        )?;
        run(
            to,
            "DELETE FROM claims WHERE owner_kind = ? AND state = ?",
            [ORPHAN, ClaimState::Reserved.as_str()],
        )
        .map(drop)
    }

    /// The instance that owns the claim, if one does.
    pub fn instance(&self) -> Option<Uuid> {
        let owner = &self.claim.owner;
        (owner.kind == Owner::INSTANCE).then(|| owner.id.parse().ok()).flatten()
    }

    /// The profile that was requested, if it is a claim of vGPUs.
    pub fn profile(&self) -> Option<&str> {
        self.wants.iter().find_map(|want| match &want.kind {
            WantKind::Profile { profile, .. } => Some(profile.as_str()),
            _ => None,
        })
    }

    /// The subject of its operations: the instance that owns it, or the claim itself.
    pub fn subject(&self) -> Uuid {
        self.instance().unwrap_or(self.claim.id)
    }

    /// The link speed and width of a function before the claim.
    pub fn baseline(&self, address: Address) -> Option<LinkBaseline> {
        let member = self.claim.members().find(|member| member.address == address)?;
        member.as_found.as_ref()?.link
    }

    /// Whether it was released but its devices could not be restored.
    pub fn is_orphan(&self) -> bool {
        self.claim.owner.kind == ORPHAN
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let expires: Option<i64> = row.get("expires")?;
        Ok(Self {
            device: optional_text(row, "device")?,
            position: row.get("position")?,
            wants: json(row, "wants")?,
            alone: row.get("alone")?,
            uid: row.get("uid")?,
            created_at: text(row, "created_at")?,
            claim: Claim {
                id: text(row, "id")?,
                owner: Owner { kind: row.get("owner_kind")?, id: row.get("owner_id")? },
                reason: row.get("reason")?,
                expires: expires.and_then(|at| u64::try_from(at).ok()),
                parts: json(row, "parts")?,
                state: word(row, "state")?,
                boot_id: row.get("boot_id")?,
            },
        })
    }
}
