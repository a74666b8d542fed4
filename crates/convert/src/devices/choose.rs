//! The devices of several machines: what one gets is not there for the next.

use super::{Devices, Scene, Wanted, nodes, vfio};

/// How machines get devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the nodes that the devices' own drivers make.
    Nodes,
    /// By VFIO.
    Vfio,
}

impl Way {
    /// What is said of it.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Nodes => "devices by the nodes of their own drivers",
            Self::Vfio => "devices by VFIO: those that are on vfio already",
        }
    }
}

/// Chooses for each machine; where no way is said, VFIO if all that is wanted is on it already, and else nodes.
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
        let who = || "another machine of this call".to_owned();
        held.extend(devices.functions.iter().map(|address| (*address, who())));
        held_mdevs.extend(devices.mdevs.iter().map(|uuid| (*uuid, who())));
        all.push(devices);
    }
    all
}
