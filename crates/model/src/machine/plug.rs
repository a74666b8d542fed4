//! Devices that a running machine gets and loses.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DeviceAccess, GuestSlot, GuestSource, Rom};
use crate::Address;

/// How many ports for further devices a machine has if nothing else is asked for.
pub const USUAL_SPARE_PORTS: u32 = 4;

/// The most ports for further devices.
pub const MOST_SPARE_PORTS: u32 = 16;

/// The ports for devices that a machine can get while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SparePorts {
    /// How many, besides those of the devices that the machine starts with.
    pub count: u32,
    /// The devices that may come: each port gets address space for the largest one.
    pub devices: Vec<GuestSlot>,
}

/// A device for a running machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    /// The machine.
    pub id: Uuid,
    /// The functions, and the port that they get.
    pub slot: GuestSlot,
    /// The ROMs of the machine's devices.
    pub roms: Vec<Rom>,
    /// The machine's memory in bytes, which VFIO pins.
    pub memory: u64,
    /// The machine's other devices.
    pub others: Vec<GuestSlot>,
    /// How the VMM opens the new ones: as those that it has.
    pub access: DeviceAccess,
}

/// A function that a running machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluggedFunction {
    /// The host device.
    pub source: GuestSource,
    /// Its address in the guest. The firmware gives it: before that, it is unknown.
    pub guest: Option<Address>,
}

/// What came of asking a guest to let go of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplugged {
    /// The machine no longer has any function of it.
    Out,
    /// The machine still has it. The guest was asked, and can still let go later.
    Kept(String),
}

/// The devices of an instance that come to its running machine or leave it, by their claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Moving {
    /// The one that the operation under way attaches or detaches.
    pub now: Option<Uuid>,
    /// Those that the guest was asked to let go of, and that are given back as soon as it does.
    pub leaving: Vec<Uuid>,
    /// Those that the guest has ejected without a request. They stay the instance's, and are plugged at its next start.
    pub ejected: Vec<Uuid>,
}

impl Moving {
    /// Whether no device moves.
    #[must_use]
    pub fn is_still(&self) -> bool {
        *self == Self::default()
    }

    /// Forgets a device, because it left or arrived.
    pub fn forget(&mut self, claim: Uuid) {
        self.now = self.now.filter(|now| *now != claim);
        self.leaving.retain(|one| *one != claim);
        self.ejected.retain(|one| *one != claim);
    }

    /// Notes that the guest was asked to let go of a device, and has not done so yet.
    pub fn wait_for(&mut self, claim: Uuid) {
        self.forget(claim);
        self.leaving.push(claim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_in_one_list_at_most() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut moving = Moving { now: Some(one), leaving: vec![], ejected: vec![one, two] };
        moving.wait_for(one);
        moving.wait_for(one);
        assert_eq!(moving, Moving { now: None, leaving: vec![one], ejected: vec![two] });
        moving.forget(one);
        moving.forget(two);
        assert!(moving.is_still());
        let stored: Moving = serde_json::from_str("{}").unwrap();
        assert!(stored.is_still());
    }
}
