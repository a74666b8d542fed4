//! Chooses devices for several machines; a device chosen for one is not available to the next.

use super::{Devices, Scene, Wanted, nodes, vfio};

/// How machines get devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through the nodes of the devices' native drivers.
    Nodes,
    /// Through VFIO.
    Vfio,
}

impl Way {
    /// A message for the user.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Nodes => "devices through the nodes of their native drivers",
            Self::Vfio => "devices through VFIO, already on vfio",
        }
    }
}

/// Chooses devices for each machine. Without `way`: VFIO if all requested devices are already on it, otherwise nodes.
#[must_use]
pub fn choose(machines: &[&[Wanted]], scene: &Scene<'_>, way: Option<Way>) -> (Way, Vec<Devices>) {
    if way != Some(Way::Nodes) {
        let all = one_by_one(machines, scene, vfio);
        if way.is_some() || all.iter().all(|devices| devices.missing.is_empty()) {
            return (Way::Vfio, all);
        }
    }
    (Way::Nodes, one_by_one(machines, scene, nodes))
}

fn one_by_one(
    machines: &[&[Wanted]],
    scene: &Scene<'_>,
    by: fn(&[Wanted], &Scene<'_>) -> Devices,
) -> Vec<Devices> {
    let (mut held, mut held_mdevs) = (scene.held.clone(), scene.held_mdevs.clone());
    let mut all = Vec::new();
    for wanted in machines {
        let devices = by(wanted, &Scene { held: &held, held_mdevs: &held_mdevs, ..*scene });
        let who = || "another machine of this request".to_owned();
        held.extend(devices.functions.iter().map(|address| (*address, who())));
        held_mdevs.extend(devices.mdevs.iter().map(|uuid| (*uuid, who())));
        all.push(devices);
    }
    all
}
