//! Finds registered devices by name, id or address.

use model::{Address, Code, Refusal};
use uuid::Uuid;

use crate::refusals;
use crate::store::{Store, StoredDevice};

/// A registration by name, id or address.
pub fn find(store: &Store, key: &str) -> Result<StoredDevice, Refusal> {
    let devices = store.read(StoredDevice::all)?;
    let id: Option<Uuid> = key.parse().ok();
    let address: Option<Address> = key.parse().ok();
    let by_name = devices.iter().position(|device| device.name == key);
    let found = by_name.or_else(|| {
        devices.iter().position(|device| Some(device.id) == id || Some(device.address) == address)
    });
    found.and_then(|index| devices.into_iter().nth(index)).ok_or_else(|| match address {
        Some(address) => not_registered(address),
        None => refusals::no_such("registered device", key, "handover device list"),
    })
}

/// The address is not that of a registered device.
fn not_registered(address: Address) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("{address} is not registered"),
        format!(
            "register it first: `handover device add {address}`; `handover device list` lists the registered devices"
        ),
    )
}

/// The address that `key` gives, or that the registration with this name or id has.
pub fn address_of(store: &Store, key: &str) -> Result<Address, Refusal> {
    match key.parse() {
        Ok(address) => Ok(address),
        Err(_) => find(store, key).map(|device| device.address),
    }
}
