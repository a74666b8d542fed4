//! Devices of instances that exist: gives them one, and takes one.

use std::time::Duration;

use api::AttachDevice;
use engine::Engine;
use model::Refusal;

use crate::instances::{device, render_one};
use crate::refusals::invalid;

/// How long a guest may take to let go of a device if nothing else is asked for.
pub const USUAL: Duration = Duration::from_secs(30);

/// The longest time.
const LONGEST: Duration = Duration::from_secs(600);

/// Gives an instance a device: at once if it runs.
///
/// # Errors
/// Those of devices in a creation; `insufficient_resources` without a free port, `conflict` if it has the device.
pub fn attach(engine: &Engine, key: &str, wanted: AttachDevice) -> Result<api::Instance, Refusal> {
    let wish = device(engine, wanted.device)?;
    render_one(engine, engine.instances().attach_device(key, &wish)?)
}

/// Takes a device from an instance, and returns it to the host.
///
/// # Errors
/// `not_found`, `invalid_state`; `guest_keeps_device` if the guest does not let go of it in time.
pub fn detach(
    engine: &Engine,
    key: &str,
    device: &str,
    timeout: Option<Duration>,
) -> Result<api::Instance, Refusal> {
    let timeout = timeout.unwrap_or(USUAL);
    if timeout > LONGEST {
        return Err(invalid(
            format!("a guest cannot be waited for longer than {} s", LONGEST.as_secs()),
            "leave the timeout out: the device is also given back when the guest lets go of it later",
        ));
    }
    let (instance, notes) = engine.instances().detach_device(key, device, timeout)?;
    Ok(api::Instance { notes, ..render_one(engine, instance)? })
}
