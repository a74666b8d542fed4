//! What the host is, has and can.

use std::sync::Arc;

use api::{
    Allocation, Capabilities, DefaultRuntime, DiskBreakdown, ErrorBody, GpuDevice, GpuResources,
    Health, HostPlatform, ImagePlatforms, NetworkModel, Resource, Resources, Runtime, Server,
};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use engine::{Engine, Instance, ResourceUse};

use super::question::Query;
use super::{Face, Problem};

/// Say that the daemon answers
#[utoipa::path(get, path = "/health", tag = "host", responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// Show what the host has and what is given to instances
#[utoipa::path(get, path = "/resources", tag = "host",
    responses((status = 200, body = Resources), (status = "default", body = ErrorBody)))]
pub async fn resources(State(face): State<Face>) -> Result<Json<Resources>, Problem> {
    let (all, instances) =
        face.ask(|engine| Ok((engine.resources()?, engine.instances(&api::Tags::new())?))).await?;
    let gpu = (!all.gpus.is_empty()).then(|| gpus(&all.gpus));
    Ok(Json(Resources {
        cpu: resource("cpu", all.cpu),
        memory: resource("memory", all.memory),
        disk: resource("disk", all.disk),
        network: resource("network", ResourceUse::default()),
        disk_breakdown: DiskBreakdown {
            images_bytes: all.disk_images,
            overlays_bytes: all.disk_overlays,
            ..DiskBreakdown::default()
        },
        allocations: instances.into_iter().map(allocation).collect(),
        gpu,
    }))
}

fn resource(name: &str, used: ResourceUse) -> Resource {
    Resource {
        resource_type: name.to_owned(),
        capacity: used.capacity,
        effective_limit: used.capacity,
        allocated: used.allocated,
        available: used.capacity.saturating_sub(used.allocated),
        oversub_ratio: 1.0,
        source: Some("detected".to_owned()),
    }
}

fn allocation(instance: Instance) -> Allocation {
    Allocation {
        instance_id: instance.id.to_string(),
        instance_name: instance.name,
        cpu: instance.vcpus,
        memory_bytes: instance.memory,
        disk_bytes: instance.overlay_size.unwrap_or_default(),
    }
}

fn gpus(gpus: &[(String, bool)]) -> GpuResources {
    let device = |(name, available): &(String, bool)| GpuDevice {
        name: name.clone(),
        available: *available,
    };
    GpuResources {
        mode: "passthrough".to_owned(),
        total_slots: gpus.len() as u64,
        used_slots: gpus.iter().filter(|(_, available)| !available).count() as u64,
        profiles: Vec::new(),
        devices: gpus.iter().map(device).collect(),
    }
}

/// Show what this daemon can do
#[utoipa::path(get, path = "/capabilities", tag = "host",
    responses((status = 200, body = Capabilities), (status = "default", body = ErrorBody)))]
pub async fn capabilities(State(face): State<Face>) -> Result<Json<Capabilities>, Problem> {
    let runtimes: Vec<Runtime> = face.ask(|engine| Ok(runtimes(engine))).await?;
    let default = runtimes.iter().find(|runtime| runtime.name == "qemu");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = format!("linux/{arch}");
    Ok(Json(Capabilities {
        default_runtime: DefaultRuntime {
            name: "qemu".to_owned(),
            available: default.is_some_and(|runtime| runtime.available),
        },
        features: ["devices", "images", "instances", "logs"].map(str::to_owned).into(),
        host: HostPlatform { os: "linux".to_owned(), arch: arch.to_owned() },
        images: ImagePlatforms { default_platform: platform.clone(), platforms: vec![platform] },
        network: NetworkModel { model: "bridge".to_owned(), guest_to_guest: false, enabled: false },
        runtimes,
        server: Server {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: "0.28.0".to_owned(),
        },
    }))
}

fn runtimes(engine: &Engine) -> Vec<Runtime> {
    let mut runtimes: Vec<Runtime> = engine
        .hypervisors()
        .into_iter()
        .map(|(name, availability)| Runtime {
            name: name.to_owned(),
            available: availability.available,
            features: vec!["gpu-passthrough".to_owned()],
            version: availability.version,
            accelerator: availability.accelerator,
            reason: availability.reason,
        })
        .collect();
    runtimes.sort_by(|a, b| a.name.cmp(&b.name));
    runtimes
}

/// Show the host's hardware, as Handover sees it
///
/// It is kept true by what the kernel tells. What changes without a word of the kernel's, such as power, is as it was
/// when its function last changed; with `fresh`, all of it is read now.
#[utoipa::path(get, path = "/inventory", tag = "host",
    params(("fresh" = Option<bool>, Query, description = "read everything again")),
    responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub async fn inventory(State(face): State<Face>, query: Query) -> Result<Response, Problem> {
    let fresh = query.flag("fresh")?;
    let hardware = face.hardware.clone().filter(|_| !fresh);
    let inventory = face.ask(move |engine| {
        let known = hardware.and_then(|hardware| hardware.inventory());
        known.map_or_else(|| engine.inventory().map(Arc::new), Ok)
    });
    Ok(Json(&*inventory.await?).into_response())
}
