//! Names the owners of claims in messages.

use model::{Owner, Refusal};
use uuid::Uuid;

use crate::store::{Store, StoredInstance};

/// The owner of a claim, for messages: `job/7`, or `the instance "web"` instead of an instance's id.
pub fn described(store: &Store, owner: &Owner) -> String {
    in_words(owner, instance_name(store, owner).as_deref())
}

/// The same, of an owner whose instance is among these.
pub fn described_among(instances: &[StoredInstance], owner: &Owner) -> String {
    let of = |row: &&StoredInstance| Owner::instance(row.instance.id) == *owner;
    in_words(owner, instances.iter().find(of).map(|row| row.instance.name.as_str()))
}

fn in_words(owner: &Owner, instance: Option<&str>) -> String {
    instance.map_or_else(|| owner.to_string(), |name| format!("the instance {name:?}"))
}

/// The owner with this text, if it is one. An instance may be given by its name, as messages show it.
pub fn parsed(store: &Store, text: &str) -> Result<Option<Owner>, Refusal> {
    let Ok(owner) = text.parse::<Owner>() else { return Ok(None) };
    if owner.kind != Owner::INSTANCE || owner.id.parse::<Uuid>().is_ok() {
        return Ok(Some(owner));
    }
    let rows = store.read(StoredInstance::all)?;
    let row = rows.iter().find(|row| row.instance.name == owner.id);
    Ok(Some(row.map_or(owner, |row| Owner::instance(row.instance.id))))
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
