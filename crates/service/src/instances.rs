//! Instances: checks requests, and names states.

use api::CreateInstance;
use engine::{Engine, InstanceState};
use model::{Refusal, parse_size};
use serde_json::{Map, Value};

use crate::refusals::{invalid, not_implemented};
use crate::render;

/// Fields of hypeman's API that are refused, because ignoring them would be noticed late.
const UNSUPPORTED: [&str; 8] = [
    "auto_standby",
    "credentials",
    "disk_io_bps",
    "expires_at",
    "health_check",
    "hotplug_size",
    "restart_policy",
    "ttl",
];

/// Parses the name of a state.
///
/// # Errors
/// The state is unknown.
pub fn state_of(word: &str) -> Result<InstanceState, Refusal> {
    let state = render::STATES.iter().find(|(_, known)| *known == word).map(|(state, _)| *state);
    state.ok_or_else(|| {
        invalid(
            format!("unknown instance state {word:?}"),
            format!("use one of {}", render::STATES.map(|(_, word)| word).join(", ")),
        )
    })
}

/// The instances with these tags and, if given, in this state.
///
/// # Errors
/// The store cannot be read.
pub fn list(
    engine: &Engine,
    tags: &api::Tags,
    state: Option<InstanceState>,
) -> Result<Vec<api::Instance>, Refusal> {
    let all = engine.instances().all(tags)?.into_iter();
    let wanted = all.filter(|one| state.is_none_or(|state| one.state == state));
    Ok(wanted.map(render::instance).collect())
}

/// Creates an instance and renders it, with notes for the person who asked.
///
/// # Errors
/// Why it cannot be created.
pub fn create(engine: &Engine, request: engine::CreateInstance) -> Result<api::Instance, Refusal> {
    let instance = engine.instances().create(request)?;
    let notes = engine.instances().advice(&instance);
    Ok(api::Instance { notes, ..render::instance(instance) })
}

/// Checks a request and converts it for the engine; `all` has the fields as sent.
///
/// # Errors
/// A field is invalid, or would be ignored silently.
pub fn accept(
    wanted: CreateInstance,
    all: &Map<String, Value>,
) -> Result<engine::CreateInstance, Refusal> {
    // A list would be read as the fields of the object, in order.
    for field in ["network", "gpu"] {
        if all.get(field).is_some_and(|value| !value.is_object() && !value.is_null()) {
            return Err(invalid(
                format!("`{field}` is not an object"),
                "send JSON as described by GET /openapi.json",
            ));
        }
    }
    let network = wanted.network.and_then(|network| network.enabled);
    if network == Some(true) {
        return Err(not_implemented(
            "virtual network cards yet",
            "omit `network` or set its `enabled` to false, and add a NIC or a VF to the machine's `devices`",
        ));
    }
    if wanted.volumes.is_some_and(|volumes| !volumes.is_empty()) {
        return Err(not_implemented("volumes", "put the data on the image's disk"));
    }
    let words = [("cmd", wanted.cmd), ("entrypoint", wanted.entrypoint)];
    let mut asked = words.iter().filter(|(_, w)| w.as_ref().is_some_and(|w| !w.is_empty()));
    let env = wanted.env.is_some_and(|env| !env.is_empty()).then_some("env");
    if let Some(field) = asked.next().map(|(field, _)| *field).or(env) {
        return Err(invalid(
            format!("`{field}` is for container images; a disk or kernel image boots as it is"),
            format!("omit `{field}`, and configure the guest inside its image or with `cmdline`"),
        ));
    }
    if let Some(field) = UNSUPPORTED.iter().find(|field| all.get(**field).is_some_and(is_asked)) {
        return Err(not_implemented(
            &format!("`{field}` for instances"),
            format!("omit `{field}`"),
        ));
    }
    let size = |text: Option<String>| {
        text.filter(|text| !text.is_empty()).map(|text| parse_size(&text)).transpose()
    };
    Ok(engine::CreateInstance {
        name: wanted.name,
        image: wanted.image,
        memory: size(wanted.size)?,
        vcpus: wanted.vcpus,
        overlay_size: size(wanted.overlay_size)?,
        devices: wanted.devices.unwrap_or_default(),
        gpu_profile: wanted.gpu.and_then(|gpu| gpu.profile).filter(|profile| !profile.is_empty()),
        hypervisor: wanted.hypervisor,
        cmdline: wanted.cmdline,
        tags: wanted.tags.unwrap_or_default(),
    })
}

/// Whether a field's value requests something.
fn is_asked(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !matches!(text.as_str(), "" | "0" | "0s"),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => {
            let off = fields.get("enabled") == Some(&Value::Bool(false))
                || fields.get("policy").is_some_and(|policy| policy == "never")
                || fields.get("type").is_some_and(|kind| kind == "none");
            !fields.is_empty() && !off
        }
        Value::Bool(true) | Value::Number(_) => true,
    }
}
