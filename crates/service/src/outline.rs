//! Dry runs of creations.

use api::{AttachedDevice, CreateInstance, PlannedChoice, PlannedInstance};
use engine::Engine;
use model::{Choice, Refusal};
use serde_json::{Map, Value};

use crate::instances::{Known, request};

/// What a creation would make; nothing is changed.
///
/// # Errors
/// Why it could not be created, as far as that is known beforehand.
pub fn plan(
    engine: &Engine,
    wanted: CreateInstance,
    all: &Map<String, Value>,
) -> Result<PlannedInstance, Refusal> {
    let request = request(engine, wanted, all)?;
    let network = request.network.clone();
    let outline = engine.instances().outline(request)?;
    let known = Known::of(engine, &outline.devices)?;
    let attached: Vec<AttachedDevice> =
        outline.devices.iter().map(|device| known.attached(device)).collect();
    let notes = engine.instances().advice(&outline.instance, &network);
    let choice = |Choice { item, value, reason }| PlannedChoice { item, value, reason };
    let choices = outline.choices.into_iter().map(choice).collect();
    Ok(PlannedInstance { name: outline.instance.name, attached, choices, notes })
}
