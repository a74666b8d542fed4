//! Names the owners of claims in messages.

use model::Owner;
use uuid::Uuid;

use crate::store::{Store, StoredInstance};

/// The owner of a claim, for messages: `job/7`, or `the instance "web"` instead of an instance's id.
pub fn described(store: &Store, owner: &Owner) -> String {
    instance_name(store, owner)
        .map_or_else(|| owner.to_string(), |name| format!("the instance {name:?}"))
}

/// The owner with this text. An instance may be given by its name, as messages show it.
pub fn parsed(store: &Store, text: &str) -> Option<Owner> {
    let owner: Owner = text.parse().ok()?;
    if owner.kind != Owner::INSTANCE || owner.id.parse::<Uuid>().is_ok() {
        return Some(owner);
    }
    let rows = store.read(StoredInstance::all).ok()?;
    let row = rows.iter().find(|row| row.instance.name == owner.id);
    Some(row.map_or(owner, |row| Owner::instance(row.instance.id)))
}

/// The name of the instance that owns a claim, if one does.
pub fn instance_name(store: &Store, owner: &Owner) -> Option<String> {
    if owner.kind != Owner::INSTANCE {
        return None;
    }
    let id = owner.id.parse().ok()?;
    let row = store.read(|from| StoredInstance::by_id(from, id)).ok()??;
    Some(row.instance.name)
}
