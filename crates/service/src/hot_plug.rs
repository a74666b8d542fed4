//! Devices, network cards and disks of instances that exist: gives them one, and takes one.

use std::time::Duration;

use api::{AttachDevice, NetworkRequest};
use engine::{CardWish, Engine, NetworkWish};
use model::{Code, Mac, Refusal};

use crate::instances::{device, render_one};
use crate::networks;
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
    let timeout = patience(timeout)?;
    let (instance, notes) = engine.instances().detach_device(key, device, timeout)?;
    Ok(api::Instance { notes, ..render_one(engine, instance)? })
}

/// Gives an instance a network card: at once if it runs.
///
/// # Errors
/// Those of cards in a creation; `invalid_state` if it runs and cannot get such a card.
pub fn attach_card(
    engine: &Engine,
    key: &str,
    wanted: NetworkRequest,
) -> Result<api::Instance, Refusal> {
    let card = match networks::wish(Some(wanted), None)? {
        NetworkWish::Usual => CardWish::default(),
        NetworkWish::Cards(mut cards) => cards.pop().ok_or_else(|| {
            invalid("a card in the mode `none` is no card", "use `user`, `bridge` or `macvtap`")
        })?,
    };
    render_one(engine, engine.instances().attach_card(key, card)?)
}

/// Takes a network card from an instance, by its hardware address.
///
/// # Errors
/// `not_found`, `invalid_state`; `guest_keeps_device` if the guest does not let go of it in time.
pub fn detach_card(
    engine: &Engine,
    key: &str,
    mac: &str,
    timeout: Option<Duration>,
) -> Result<api::Instance, Refusal> {
    let timeout = patience(timeout)?;
    let mac: Mac = mac.parse().map_err(|error: model::MacError| {
        let remedy = format!("`handover instance show {key}` shows its network cards");
        Refusal::new(Code::NotFound, error.to_string(), remedy)
    })?;
    render_one(engine, engine.instances().detach_card(key, mac, timeout)?)
}

/// Takes a volume or another disk from an instance.
///
/// # Errors
/// `not_found`, `invalid_state`; `guest_keeps_device` if the guest does not let go of it in time.
pub fn detach_disk(
    engine: &Engine,
    key: &str,
    disk: &str,
    timeout: Option<Duration>,
) -> Result<api::Instance, Refusal> {
    let timeout = patience(timeout)?;
    render_one(engine, engine.instances().detach_within(key, disk, timeout)?)
}

/// Takes a block device from an instance.
///
/// # Errors
/// As [`detach_disk`].
pub fn detach_block(
    engine: &Engine,
    key: &str,
    block: &str,
    timeout: Option<Duration>,
) -> Result<api::Instance, Refusal> {
    let timeout = patience(timeout)?;
    render_one(engine, engine.instances().detach_block(key, block, timeout)?)
}

/// How long a guest may take.
fn patience(timeout: Option<Duration>) -> Result<Duration, Refusal> {
    let timeout = timeout.unwrap_or(USUAL);
    if timeout <= LONGEST {
        return Ok(timeout);
    }
    Err(invalid(
        format!("a guest cannot be waited for longer than {} s", LONGEST.as_secs()),
        "leave the timeout out: the device is also given back when the guest lets go of it later",
    ))
}
