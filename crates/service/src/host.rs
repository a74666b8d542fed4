//! Resources of the host, and capabilities of Handover.

use api::{
    Allocation, Capabilities, DefaultRuntime, DiskBreakdown, GpuDevice, GpuResources, Health,
    HealthStatus, HostPlatform, ImagePlatforms, NetworkModel, Recovering, RecoveringState,
    Resource, Resources, Runtime, Server,
};
use engine::{Engine, Instance, RecoveryTask, RecoveryTaskState, ResourceUse};
use model::Refusal;

/// The health of a daemon that has started.
#[must_use]
pub const fn healthy() -> Health {
    Health { status: HealthStatus::Ok, recovering: Vec::new() }
}

/// The health of a daemon that still recovers these operations.
#[must_use]
pub fn starting(recovering: Vec<RecoveryTask>) -> Health {
    let recovering = recovering.into_iter().map(self::recovering).collect();
    Health { status: HealthStatus::Starting, recovering }
}

fn recovering(task: RecoveryTask) -> Recovering {
    Recovering {
        text: task.describe(),
        operation: task.operation.to_string(),
        of: task.of,
        devices: task.devices.iter().map(ToString::to_string).collect(),
        step: task.step,
        state: match task.state {
            RecoveryTaskState::Queued => RecoveringState::Queued,
            RecoveryTaskState::Running => RecoveringState::Running,
            RecoveryTaskState::Stuck => RecoveringState::Stuck,
        },
    }
}

/// Total, allocated and free resources.
///
/// # Errors
/// The store or the host cannot be read.
pub fn resources(engine: &Engine) -> Result<Resources, Refusal> {
    let (all, instances) = (engine.resources()?, engine.instances().all(&api::Tags::new())?);
    let gpu = (!all.gpus.is_empty()).then(|| gpus(&all.gpus));
    Ok(Resources {
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
    })
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

/// The capabilities of this Handover.
#[must_use]
pub fn capabilities(engine: &Engine) -> Capabilities {
    let runtimes = runtimes(engine);
    let default = runtimes.iter().find(|runtime| runtime.name == "qemu");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = format!("linux/{arch}");
    Capabilities {
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
    }
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
