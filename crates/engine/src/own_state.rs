//! Reads what a store says of the host's devices, without opening it for writing: beside a running daemon, for listings.

use std::path::Path;

use model::{OwnState, Refusal, Unhealthy};
use rusqlite::Connection;

use crate::claims::choose::existing_claims;
use crate::refusals;
use crate::store::{self, Health, StoredDevice};

/// The claims, the health and the names of devices in a state directory; empty if it has no store yet.
///
/// # Errors
/// `forbidden` if this user may not read it; `state_unusable` if it is damaged or has another format.
pub fn own_state(state_dir: &Path) -> Result<OwnState, Refusal> {
    Ok(store::read_only(state_dir, read)?.unwrap_or_default())
}

/// The same, from an open store.
pub fn read(from: &Connection) -> rusqlite::Result<OwnState> {
    let unhealthy = Health::all(from)?.into_iter().map(|health| {
        let word = health.state.as_str();
        (health.address, Unhealthy { word, why: refusals::unhealthy(&health) })
    });
    let names = StoredDevice::all(from)?.into_iter().map(|device| (device.address, device.name));
    Ok(OwnState {
        claims: existing_claims(from)?,
        unhealthy: unhealthy.collect(),
        names: names.collect(),
    })
}
