//! Devices that a running machine gets and loses.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DeviceAccess, GuestSlot, GuestSource, PartKey, Rom};
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
    /// Those of `leaving` that stay the instance's, and are plugged at its next start: the guest had ejected them, and plugging one
    /// again has failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub staying: Vec<Uuid>,
    /// The same of its disks and network cards.
    #[serde(skip_serializing_if = "MovingParts::is_still")]
    pub parts: MovingParts,
}

/// The disks and network cards of an instance that come to its running machine or leave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MovingParts {
    /// The one that the operation under way attaches or detaches.
    pub now: Option<PartKey>,
    /// Those that the guest was asked to let go of, and that the instance no longer has as soon as it does.
    pub leaving: Vec<PartKey>,
    /// Those that the guest has ejected without a request. They stay the instance's, and are plugged at its next start.
    pub ejected: Vec<PartKey>,
}

impl MovingParts {
    /// Whether none moves.
    #[must_use]
    pub fn is_still(&self) -> bool {
        *self == Self::default()
    }

    /// Forgets one, because it left or arrived.
    pub fn forget(&mut self, part: &PartKey) {
        self.now = self.now.take().filter(|now| now != part);
        self.leaving.retain(|one| one != part);
        self.ejected.retain(|one| one != part);
    }

    /// Notes that the guest was asked to let go of one, and has not done so yet.
    pub fn wait_for(&mut self, part: &PartKey) {
        self.forget(part);
        self.leaving.push(part.clone());
    }

    /// Notes that the guest has ejected one.
    pub fn note_ejected(&mut self, part: &PartKey) {
        self.forget(part);
        self.ejected.push(part.clone());
    }
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
        self.staying.retain(|one| *one != claim);
    }

    /// Notes that the guest was asked to let go of a device, and has not done so yet.
    pub fn wait_for(&mut self, claim: Uuid) {
        self.forget(claim);
        self.leaving.push(claim);
    }

    /// The same of a device that could not be plugged. One that the guest had ejected stays the instance's.
    pub fn wait_for_unplugged(&mut self, claim: Uuid) {
        let stays = self.ejected.contains(&claim) || self.staying.contains(&claim);
        self.wait_for(claim);
        self.staying.extend(stays.then_some(claim));
    }

    /// Notes that the guest has ejected a device.
    pub fn note_ejected(&mut self, claim: Uuid) {
        self.forget(claim);
        self.ejected.push(claim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_in_one_list_at_most() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut moving = Moving { now: Some(one), ejected: vec![one, two], ..Moving::default() };
        moving.wait_for(one);
        moving.wait_for(one);
        let expected = Moving { leaving: vec![one], ejected: vec![two], ..Moving::default() };
        assert_eq!(moving, expected);
        moving.note_ejected(one);
        moving.wait_for_unplugged(one);
        moving.wait_for_unplugged(one);
        assert_eq!(moving, Moving { staying: vec![one], ..expected.clone() });
        moving.wait_for(one);
        assert_eq!(moving, expected, "it was asked to leave");
        moving.forget(one);
        moving.forget(two);
        assert!(moving.is_still());
        let stored: Moving = serde_json::from_str("{}").unwrap();
        assert!(stored.is_still());
    }
}
