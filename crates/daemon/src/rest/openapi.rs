//! The OpenAPI document, generated from the handlers.

use std::sync::LazyLock;

use api::schema;
use axum::Json;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{
    claims, consoles, devices, displays, events, exec, exec_socket, guest_files, host, images,
    instances, logs, pods, reconcile, scans, sriov, volumes, wait,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Handover",
        description = "Hands PCI devices to virtual machines, and takes them back. The part of hypeman's API about devices, \
            images, volumes, instances and resources, with additions.",
        license(name = "MIT OR Apache-2.0")
    ),
    paths(
        host::health, host::resources, host::capabilities, host::inventory, scans::topology, scans::doctor, events::stream,
        serve,
        claims::list, claims::create, claims::show, claims::prepare, claims::unprepare, claims::renew, claims::release,
        pods::create, sriov::list, sriov::set, reconcile::last, reconcile::again, reconcile::return_devices,
        devices::available, devices::list, devices::create, devices::show, devices::delete, devices::clear,
        devices::bind, devices::unbind, devices::reset,
        images::list, images::import, images::prune, images::show, images::delete, images::make, images::resize,
        volumes::list, volumes::create, volumes::create_from_archive, volumes::resize, volumes::show, volumes::delete, volumes::attach, volumes::detach, volumes::insert,
        volumes::eject, volumes::attach_block, volumes::detach_block,
        instances::list, instances::create, instances::show, instances::template, instances::delete, instances::update, instances::stop, instances::start,
        instances::attach, instances::attach_named, instances::detach, instances::attach_card, instances::detach_card, instances::pause, instances::resume, instances::usage, exec::run, exec_socket::connect, guest_files::copy, guest_files::stat, exec::set_password,
        logs::stream, consoles::connect, displays::connect, displays::access, wait::wait
    ),
    // Those of parameters: the macros collect only those of bodies.
    components(schemas(
        schema::KindOrAll, schema::QueryTags, schema::GoDuration, schema::LogSource, schema::LogFormat, schema::TreeFormat, schema::InstanceState,
        schema::PciAddress, schema::AnyOwner, schema::GuestPath
    )),
    security(("token" = [])),
    tags((name = "host"), (name = "claims"), (name = "devices"), (name = "images"), (name = "volumes"), (name = "instances"))
)]
struct Document;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    // Has no map with other keys than strings, so it can be written as JSON.
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
        let token = json!({
            "type": "http",
            "scheme": "bearer",
            "description": "The token of `--token-file`, over TCP. The unix socket needs none.",
        });
        components.insert("securitySchemes".to_owned(), json!({ "token": token }));
    }
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flatten();
    for (_, methods) in paths {
        for operation in methods.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            parameters.into_iter().flatten().for_each(without_null);
        }
    }
    limit_integers(&mut document);
    document
});

/// A parameter that can be omitted is not null: a query has only texts.
fn without_null(parameter: &mut Value) {
    let Some(schema) = parameter.get_mut("schema") else { return };
    let is_null = |one: &Value| one.get("type").is_some_and(|kind| kind == "null");
    if let Some(forms) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        forms.retain(|one| !is_null(one));
        if let [only] = forms.as_slice() {
            *schema = only.clone();
        }
    }
    if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            schema["type"] = only;
        }
    }
}

/// Gives each unsigned integer the highest value of its type, and the format's name its usual spelling.
fn limit_integers(part: &mut Value) {
    match part {
        Value::Object(fields) => {
            let unsigned = match fields.get("format").and_then(Value::as_str) {
                Some("u-int8") => Some(("uint8", json!(u8::MAX))),
                Some("u-int16") => Some(("uint16", json!(u16::MAX))),
                Some("u-int32") => Some(("uint32", json!(u32::MAX))),
                Some("u-int64") => Some(("uint64", json!(u64::MAX))),
                _ => None,
            };
            if let Some((format, highest)) = unsigned {
                fields.insert("format".to_owned(), json!(format));
                fields.entry("maximum").or_insert(highest);
            }
            fields.values_mut().for_each(limit_integers);
        }
        Value::Array(values) => values.iter_mut().for_each(limit_integers),
        _ => {}
    }
}

/// The OpenAPI document.
#[must_use]
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Show the OpenAPI document
#[utoipa::path(get, path = "/openapi.json", tag = "host",
    responses((status = 200, body = Object), (status = "default", body = api::ErrorBody)))]
pub async fn serve() -> Json<&'static Value> {
    Json(document())
}
