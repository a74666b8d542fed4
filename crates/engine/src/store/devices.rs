//! Registered devices in the store.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{Address, Fingerprint, Kind};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::{json, run, text, to_json};

/// A registered device as stored.
#[derive(Clone, Debug)]
pub struct StoredDevice {
    pub id: Uuid,
    pub name: String,
    pub address: Address,
    pub kind: Kind,
    pub fingerprint: Fingerprint,
    pub tags: BTreeMap<String, String>,
    pub created_at: Timestamp,
}

impl StoredDevice {
    pub fn insert(&self, to: &Connection) -> rusqlite::Result<()> {
        run(
            to,
            "INSERT INTO devices (id, name, address, kind, fingerprint, tags, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                self.id.to_string(),
                self.name,
                self.address.to_string(),
                self.kind.as_str(),
                to_json(&self.fingerprint)?,
                to_json(&self.tags)?,
                self.created_at.to_string(),
            ],
        )?;
        Ok(())
    }

    pub fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM devices ORDER BY created_at, name")?
            .query_map([], Self::read)?
            .collect()
    }

    pub fn delete(from: &Connection, id: Uuid) -> rusqlite::Result<()> {
        run(from, "DELETE FROM devices WHERE id = ?", [id.to_string()]).map(drop)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: text(row, "id")?,
            name: row.get("name")?,
            address: text(row, "address")?,
            kind: text(row, "kind")?,
            fingerprint: json(row, "fingerprint")?,
            tags: json(row, "tags")?,
            created_at: text(row, "created_at")?,
        })
    }
}
