//! Resources of the host, and capabilities of Handover.

use api::{
    Allocation, Capabilities, DefaultRuntime, DiskBreakdown, GpuDevice, GpuProfile, GpuResources,
    Health, HealthStatus, HostPlatform, ImagePlatforms, NetworkModel, PciResource, Recovering,
    RecoveringState, Resource, Resources, Runtime, Server,
};
use engine::{Engine, Instance, RecoveryTask, RecoveryTaskState, ResourceUse, WholeGpu};
use model::{Refusal, VgpuProfile, VgpuSlots};

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
    let gpu = gpus(all.gpus, all.vgpus);
    Ok(Resources {
        cpu: resource("cpu", all.cpu),
        memory: resource("memory", all.memory),
        disk: resource("disk", all.disk),
        network: resource("network", ResourceUse::default()),
        disk_breakdown: DiskBreakdown {
            images_bytes: all.disk_use.images,
            oci_cache_bytes: all.disk_use.layers,
            overlays_bytes: all.disk_use.overlays,
            volumes_bytes: all.disk_use.volumes,
        },
        allocations: instances.into_iter().map(allocation).collect(),
        pci: all.pci.into_iter().map(pci).collect(),
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

fn pci(resource: engine::PciResource) -> PciResource {
    PciResource {
        name: resource.name,
        capacity: resource.total as u64,
        allocated: resource.allocated as u64,
        available: resource.available as u64,
        claimed_by: resource.claimed_by.into_iter().collect(),
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

/// The GPUs; `None` if there are none.
fn gpus(gpus: Vec<WholeGpu>, vgpus: Option<VgpuSlots>) -> Option<GpuResources> {
    if gpus.is_empty() && vgpus.is_none() {
        return None;
    }
    let used = gpus.iter().filter(|gpu| !gpu.available).count() as u64;
    let (mode, total_slots, used_slots, profiles) = match vgpus {
        Some(slots) => ("vgpu", slots.total, slots.used, slots.profiles),
        None => ("passthrough", gpus.len() as u64, used, Vec::new()),
    };
    let profile = |profile: VgpuProfile| GpuProfile {
        name: profile.name,
        framebuffer_mb: profile.framebuffer_mb,
        available: profile.available,
    };
    let device = |gpu: WholeGpu| GpuDevice {
        name: gpu.name,
        pci_address: gpu.address.to_string(),
        available: gpu.available,
    };
    Some(GpuResources {
        mode: mode.to_owned(),
        total_slots,
        used_slots,
        profiles: profiles.into_iter().map(profile).collect(),
        devices: gpus.into_iter().map(device).collect(),
    })
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
        features: ["devices", "exec", "images", "instances", "logs", "volumes"]
            .map(str::to_owned)
            .into(),
        host: HostPlatform { os: "linux".to_owned(), arch: arch.to_owned() },
        images: ImagePlatforms { default_platform: platform.clone(), platforms: vec![platform] },
        network: NetworkModel {
            model: "bridge".to_owned(),
            guest_to_guest: false,
            enabled: engine.instances().has_network(),
        },
        runtimes,
        server: Server {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: "0.28.0".to_owned(),
        },
    }
}

/// What machines of a hypervisor can do, in the words of hypeman's API.
fn features(engine: &Engine, hypervisor: &str) -> Vec<String> {
    let vsock = engine.instances().has_vsock(hypervisor).then_some("vsock");
    ["gpu-passthrough", "pause"].into_iter().chain(vsock).map(str::to_owned).collect()
}

fn runtimes(engine: &Engine) -> Vec<Runtime> {
    let mut runtimes: Vec<Runtime> = engine
        .hypervisors()
        .into_iter()
        .map(|(name, availability)| Runtime {
            name: name.to_owned(),
            available: availability.available,
            features: features(engine, name),
            version: availability.version,
            accelerator: availability.accelerator,
            device_access: engine.instances().device_access(name).as_str().to_owned(),
            reason: availability.reason,
        })
        .collect();
    runtimes.sort_by(|a, b| a.name.cmp(&b.name));
    runtimes
}
