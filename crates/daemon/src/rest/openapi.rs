//! The OpenAPI document, generated from the handlers.

use axum::Json;
use utoipa::OpenApi;

use super::{
    claims, devices, events, examined, host, images, instances, logs, pods, reconcile, sriov, wait,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Handover",
        description = "Hands PCI devices to virtual machines, and takes them back. The part of hypeman's API about devices, \
            images, instances and resources, with additions.",
        license(name = "MIT OR Apache-2.0")
    ),
    paths(
        host::health, host::resources, host::capabilities, host::inventory, examined::topology, examined::doctor, events::stream,
        claims::list, claims::create, claims::show, claims::prepare, claims::unprepare, claims::renew, claims::release,
        pods::create, sriov::list, sriov::set, reconcile::last, reconcile::again, reconcile::return_devices,
        devices::available, devices::list, devices::create, devices::show, devices::delete, devices::clear,
        images::list, images::import, images::show, images::delete,
        instances::list, instances::create, instances::show, instances::delete, instances::stop, instances::start,
        logs::stream, wait::wait
    ),
    tags((name = "host"), (name = "claims"), (name = "devices"), (name = "images"), (name = "instances"))
)]
struct Document;

/// The OpenAPI document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Serves `/openapi.json`.
pub async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
