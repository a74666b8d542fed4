//! Volumes in the store.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{json, optional_text, run, signed, text, to_json, word};
use crate::Volume;

impl Volume {
    pub(crate) fn insert(&self, to: &Connection) -> rusqlite::Result<()> {
        run(
            to,
            "INSERT INTO volumes (id, name, size, format, allocated, made_with, tags, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                self.id.to_string(),
                self.name,
                signed(self.size),
                self.format.as_str(),
                self.allocated,
                self.made_with.map(|id| id.to_string()),
                to_json(&self.tags)?,
                self.created_at.to_string(),
            ],
        )
        .map(drop)
    }

    pub(crate) fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM volumes ORDER BY created_at, name")?
            .query_map([], Self::read)?
            .collect()
    }

    pub(crate) fn by_id(from: &Connection, id: Uuid) -> rusqlite::Result<Option<Self>> {
        from.query_row("SELECT * FROM volumes WHERE id = ?", [id.to_string()], Self::read)
            .optional()
    }

    /// By id or name.
    pub(crate) fn by_key(from: &Connection, key: &str) -> rusqlite::Result<Option<Self>> {
        let by_id = key.parse().map_or(Ok(None), |id| Self::by_id(from, id))?;
        if by_id.is_some() {
            return Ok(by_id);
        }
        from.query_row("SELECT * FROM volumes WHERE name = ?", [key], Self::read).optional()
    }

    /// Those that were made with an instance, and are deleted with it.
    pub(crate) fn made_with(from: &Connection, instance: Uuid) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM volumes WHERE made_with = ?")?
            .query_map([instance.to_string()], Self::read)?
            .collect()
    }

    /// From now on it stays when the instance that it was made with is deleted.
    pub(crate) fn keep(to: &Connection, id: Uuid) -> rusqlite::Result<()> {
        run(to, "UPDATE volumes SET made_with = NULL WHERE id = ?", [id.to_string()]).map(drop)
    }

    /// Writes its size.
    pub(crate) fn update_size(&self, to: &Connection) -> rusqlite::Result<()> {
        let (size, id) = (signed(self.size), self.id.to_string());
        run(to, "UPDATE volumes SET size = ? WHERE id = ?", params![size, id]).map(drop)
    }

    pub(crate) fn delete(from: &Connection, id: Uuid) -> rusqlite::Result<()> {
        run(from, "DELETE FROM volumes WHERE id = ?", [id.to_string()]).map(drop)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: text(row, "id")?,
            name: row.get("name")?,
            size: u64::try_from(row.get::<_, i64>("size")?).unwrap_or_default(),
            format: word(row, "format")?,
            allocated: row.get("allocated")?,
            made_with: optional_text(row, "made_with")?,
            created_at: text(row, "created_at")?,
            tags: json(row, "tags")?,
        })
    }
}
