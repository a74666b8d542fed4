//! Registered devices, and devices that can be registered.

use api::{AvailableDevice, CreateDevice, Device};
use engine::{AvailableFilter, Engine, RegisterDevice};
use model::Refusal;

use crate::refusals::invalid;
use crate::render;

/// The functions that can be handed over and are not claimed, registered or not: GPUs and all of NVIDIA, those of a kind,
/// or `all`.
///
/// # Errors
/// The kind is unknown, or the host cannot be read.
pub fn available(engine: &Engine, kind: Option<&str>) -> Result<Vec<AvailableDevice>, Refusal> {
    let filter = match kind {
        None => AvailableFilter::Gpus,
        Some("all") => AvailableFilter::All,
        Some(kind) => AvailableFilter::Kind(
            kind.parse()
                .map_err(|reason: String| invalid(reason, "use one of these kinds, or type=all"))?,
        ),
    };
    Ok(engine.devices().available(&filter)?.into_iter().map(render::available).collect())
}

/// The registered devices with these tags.
///
/// # Errors
/// The store or the host cannot be read.
pub fn list(engine: &Engine, tags: &api::Tags) -> Result<Vec<Device>, Refusal> {
    Ok(engine.devices().all(tags)?.into_iter().map(render::device).collect())
}

/// Registers a device.
///
/// # Errors
/// `invalid_pci_address`, `invalid_name`, `device_not_found`, `not_assignable`, `no_iommu`, `conflict`.
pub fn register(engine: &Engine, wanted: CreateDevice) -> Result<Device, Refusal> {
    let request = RegisterDevice {
        address: wanted.pci_address,
        name: wanted.name.filter(|name| !name.is_empty()),
        tags: wanted.tags.unwrap_or_default(),
    };
    engine.devices().register(request).map(render::device)
}

/// A registered device, by id or name.
///
/// # Errors
/// `not_found`.
pub fn show(engine: &Engine, key: &str) -> Result<Device, Refusal> {
    engine.devices().find(key).map(render::device)
}
