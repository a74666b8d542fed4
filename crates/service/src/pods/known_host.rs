//! The state of the host for choosing devices.

use std::collections::BTreeMap;

use convert::devices::{self, Scene, Section, Wanted, Way};
use model::choose::Want;
use model::{Address, Function, Holder, Inventory, Kind};
use uuid::Uuid;

use super::machine::Machine;

/// Daemons that keep devices open for others, and release them automatically.
const WAIT_ON_OTHERS: [&str; 3] = ["nvidia-persiste", "systemd-logind", "nvidia-powerd"];

/// The hardware, its users, and the meaning of resource names.
#[derive(Debug)]
pub struct KnownHost {
    /// Its hardware.
    pub inventory: Inventory,
    /// Existing nodes that several functions share, such as `/dev/kfd`.
    pub present: Vec<String>,
    /// Resources that the user has defined.
    pub named: BTreeMap<String, Want>,
    held: BTreeMap<Address, String>,
    held_mdevs: BTreeMap<Uuid, String>,
}

impl KnownHost {
    /// A host with all devices free.
    #[must_use]
    pub const fn new(inventory: Inventory, named: BTreeMap<String, Want>) -> Self {
        Self {
            inventory,
            named,
            present: Vec::new(),
            held: BTreeMap::new(),
            held_mdevs: BTreeMap::new(),
        }
    }

    /// A view of it for choosing.
    #[must_use]
    pub fn scene(&self) -> Scene<'_> {
        let Self { inventory, held, held_mdevs, present, named } = self;
        Scene { inventory, held, held_mdevs, present, named }
    }

    /// Marks what processes use as taken.
    pub fn add_holders(&mut self, holders: Vec<Holder>) {
        for holder in holders {
            let waits = holder
                .program
                .as_deref()
                .is_some_and(|one| WAIT_ON_OTHERS.iter().any(|program| one.starts_with(program)));
            let who = format!("{} ({})", holder.user, holder.by);
            match holder.mdev {
                // The parent of a mediated device can still serve others.
                Some(uuid) => drop(self.held_mdevs.entry(uuid).or_insert(who)),
                None if !waits => drop(self.held.entry(holder.address).or_insert(who)),
                None => {}
            }
        }
    }

    /// Marks what is claimed for other owners than these machines as taken.
    pub fn add_claims(&mut self, claims: &[api::Claim], machines: &[Machine]) {
        let own: Vec<String> = machines.iter().map(Machine::owner).collect();
        for claim in claims.iter().filter(|claim| !own.contains(&claim.owner)) {
            let who = format!("the claim of {}", claim.owner);
            for part in &claim.parts {
                let taken = part.members.iter().filter(|member| member.role != "bystander");
                let taken = taken.filter_map(|member| member.address.parse::<Address>().ok());
                self.held.extend(taken.map(|address| (address, who.clone())));
                let mdev = part.mdev.as_ref().and_then(|mdev| mdev.parse::<Uuid>().ok());
                self.held_mdevs.extend(mdev.map(|uuid| (uuid, who.clone())));
            }
        }
    }
}

/// Chooses devices for each machine, and returns the way. Without `way`: VFIO if all devices are already on it.
pub fn choose(machines: &mut [Machine], host: &KnownHost, way: Option<Way>) -> Way {
    let wanted: Vec<&[Wanted]> = machines.iter().map(|one| one.wanted.as_slice()).collect();
    let (way, chosen) = devices::choose(&wanted, &host.scene(), way);
    for (machine, devices) in machines.iter_mut().zip(chosen) {
        machine.devices = devices;
    }
    way
}

/// The functions whose detail is needed: names of profiles and MIG instances.
#[must_use]
pub fn detailed(inventory: &Inventory, machines: &[Machine]) -> Vec<Address> {
    let wanted = || machines.iter().flat_map(|one| &one.wanted);
    let profiles = wanted().any(|one| one.resource.profile().is_some());
    let gpus = wanted().any(|one| one.section == Section::Gpu);
    let is_told = |function: &&Function| {
        // A vGPU by vendor-specific VFIO is a VF that stays on its vendor's driver.
        let may_be_vgpu = function.physical_function.is_some()
            && function.driver.is_some()
            && matches!(function.kind(), Kind::Gpu | Kind::Accelerator);
        (profiles && !function.mdevs.is_empty())
            || may_be_vgpu
            || function.on_vfio()
            || (gpus && function.nodes.nvidia_minor.is_some())
    };
    inventory.functions.values().filter(is_told).map(|function| function.address).collect()
}
