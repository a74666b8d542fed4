//! Configured numbers of virtual functions in the store.

use model::{Address, Fingerprint};
use rusqlite::{Connection, Row, params};

use super::{json, run, text, to_json};

/// The configuration of one physical function.
#[derive(Clone, Debug)]
pub struct VfCount {
    pub address: Address,
    /// Its fingerprint when it was configured: another card at this address is not changed.
    pub fingerprint: Fingerprint,
    pub count: u16,
    /// Whether host drivers bind new virtual functions automatically.
    pub autoprobe: bool,
}

impl VfCount {
    pub fn put(&self, to: &Connection) -> rusqlite::Result<()> {
        run(
            to,
            "INSERT OR REPLACE INTO vf_counts (address, fingerprint, count, autoprobe) VALUES (?, ?, ?, ?)",
            params![
                self.address.to_string(),
                to_json(&self.fingerprint)?,
                self.count,
                self.autoprobe
            ],
        )
        .map(drop)
    }

    pub fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM vf_counts ORDER BY address")?
            .query_map([], Self::read)?
            .collect()
    }

    pub fn delete(from: &Connection, address: Address) -> rusqlite::Result<()> {
        run(from, "DELETE FROM vf_counts WHERE address = ?", [address.to_string()]).map(drop)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            address: text(row, "address")?,
            fingerprint: json(row, "fingerprint")?,
            count: row.get("count")?,
            autoprobe: row.get("autoprobe")?,
        })
    }
}
