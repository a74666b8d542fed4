//! Names the owners of claims in messages.

use model::Owner;

use crate::store::{Store, StoredInstance};

/// The owner of a claim, for messages: `job/7`, or `the instance "web"` instead of an instance's id.
pub fn described(store: &Store, owner: &Owner) -> String {
    instance_name(store, owner)
        .map_or_else(|| owner.to_string(), |name| format!("the instance {name:?}"))
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
