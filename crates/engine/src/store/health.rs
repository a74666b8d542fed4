//! Functions that wait for a person.

use jiff::Timestamp;
use model::Address;
use rusqlite::{Connection, params};

use super::text;

/// Why a function is not chosen.
#[derive(Clone, Debug)]
pub struct Health {
    pub address: Address,
    pub reason: String,
}

impl Health {
    /// Marks a function as wedged. The first reason stays.
    pub fn wedge(to: &Connection, address: Address, reason: &str) -> rusqlite::Result<()> {
        to.execute(
            "INSERT INTO health (address, state, reason, since) VALUES (?, 'wedged', ?, ?) ON CONFLICT DO NOTHING",
            params![address.to_string(), reason, Timestamp::now().to_string()],
        )
        .map(drop)
    }

    pub fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM health")?
            .query_map([], |row| {
                Ok(Self { address: text(row, "address")?, reason: row.get("reason")? })
            })?
            .collect()
    }

    pub fn clear(from: &Connection, address: Address) -> rusqlite::Result<()> {
        from.execute("DELETE FROM health WHERE address = ?", [address.to_string()]).map(drop)
    }
}
