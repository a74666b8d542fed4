//! Functions that need manual attention.

use jiff::Timestamp;
use model::Address;
use rusqlite::{Connection, params};

use super::{run, text, to_word, word};
use crate::HealthState;

/// The health record of a function; it is not chosen while it has one.
#[derive(Clone, Debug)]
pub struct Health {
    pub address: Address,
    pub state: HealthState,
    pub reason: String,
    pub since: Timestamp,
}

impl Health {
    /// Marks a function. The first reason is kept, except that quarantined replaces wedged.
    pub fn mark(
        to: &Connection,
        address: Address,
        state: HealthState,
        reason: &str,
    ) -> rusqlite::Result<()> {
        run(
            to,
            "INSERT INTO health (address, state, reason, since) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET state = ?2, reason = ?3 WHERE state = 'wedged' AND ?2 = 'quarantined'",
            params![address.to_string(), to_word(&state)?, reason, Timestamp::now().to_string()],
        )
        .map(drop)
    }

    pub fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM health ORDER BY address")?
            .query_map([], |row| {
                Ok(Self {
                    address: text(row, "address")?,
                    state: word(row, "state")?,
                    reason: row.get("reason")?,
                    since: text(row, "since")?,
                })
            })?
            .collect()
    }

    pub fn clear(from: &Connection, address: Address) -> rusqlite::Result<()> {
        run(from, "DELETE FROM health WHERE address = ?", [address.to_string()]).map(drop)
    }
}
