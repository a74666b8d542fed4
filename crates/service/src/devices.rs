//! Registered devices, and devices that can be registered.

use api::{AvailableDevice, BindDevice, CreateDevice, Device, Released, ResetDevice, UnbindDevice};
use engine::{AvailableFilter, Engine, RegisterDevice};
use model::choose::{Want, WantKind};
use model::{Code, Owner, Refusal};
use uuid::Uuid;

use crate::claims;
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
    if let Some(name) = &wanted.name {
        expect_a_name_only(name)?;
    }
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

/// Binds a device to its vfio driver for an owner; `true` if it was not yet bound for that owner.
///
/// # Errors
/// As [`claims::claim`].
pub fn bind(engine: &Engine, key: &str, how: BindDevice) -> Result<(api::Claim, bool), Refusal> {
    let (owner, uid) = (owner(how.owner)?, claims::user(how.uid)?);
    let claimed = engine.devices().bind(key, owner, uid, how.evict)?;
    Ok((claims::render_claim(engine, &claimed.claim)?, claimed.new))
}

/// Returns a device that was bound to its driver.
///
/// # Errors
/// As [`claims::release`]; `invalid_state` if no claim bound it.
pub fn unbind(engine: &Engine, key: &str, how: UnbindDevice) -> Result<Released, Refusal> {
    Ok(Released { notes: engine.devices().unbind(key, owner(how.owner)?)? })
}

/// Resets a device.
///
/// # Errors
/// `invalid_state` if the kernel cannot reset it alone; as [`claims::claim`].
pub fn reset(engine: &Engine, key: &str, how: ResetDevice) -> Result<Released, Refusal> {
    Ok(Released { notes: engine.devices().reset(key, owner(how.owner)?, how.evict)? })
}

fn owner(text: Option<String>) -> Result<Option<Owner>, Refusal> {
    text.map(|text| text.parse()).transpose()
}

/// Refuses a name that requests read as something else: a kind, a count, an address, an id.
fn expect_a_name_only(name: &str) -> Result<(), Refusal> {
    let reads_as = match name.parse::<Want>() {
        Ok(Want { count: 1, kind: WantKind::Device(read), .. }) if read == name => {
            name.parse::<Uuid>().ok().map(|_| "an id".to_owned())
        }
        Ok(Want { count: 1, kind, .. }) => Some(kind.to_string()),
        Ok(Want { count, kind, .. }) => Some(format!("{count} times {kind}")),
        // The rule for names refuses some of these, but not `0xgpu`.
        Err(_) => model::check_device_name(name).is_ok().then(|| "an invalid request".to_owned()),
    };
    reads_as.map_or(Ok(()), |what| {
        Err(Refusal::new(
            Code::InvalidName,
            format!("{name:?} cannot be a device's name: requests read it as {what}"),
            "choose a name that is no kind of device, count, address or id, such as gpu0",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for name in
            ["gpu", "nvme", "vf", "2xgpu", "2xlarge", "pci_0000_01_00_0", "bridge", "0xgpu", "a/b"]
        {
            assert_eq!(expect_a_name_only(name).unwrap_err().code, Code::InvalidName, "{name}");
        }
        let id = "bd4aa2b4-9c54-4d10-9c8e-4f4f4b2b3c7d";
        assert!(expect_a_name_only(id).unwrap_err().message.contains("an id"));
        for name in ["gpu0", "l4-gpu", "x2", "pci-0000-01-00-0", "GPU", "..x", "a,b"] {
            assert_eq!(expect_a_name_only(name), Ok(()), "{name}");
        }
    }
}
