//! Which of the host's devices the machines get.

use std::collections::BTreeMap;
use std::path::PathBuf;

use convert::devices::{self, Place, Scene, Wanted, fixed};
use model::choose::Want;
use model::{Address, Function, Host, Inventory, Refusal};
use uuid::Uuid;

use super::{Machine, Pod, Way, say, warn};
use crate::source::Source;

/// Programs that keep devices open for others, and let them go by themselves.
const WAIT_ON_OTHERS: [&str; 3] = ["nvidia-persiste", "systemd-logind", "nvidia-powerd"];

/// What is known of the host.
pub struct Looked {
    /// Its hardware.
    pub inventory: Inventory,
    held: BTreeMap<Address, String>,
    held_mdevs: BTreeMap<Uuid, String>,
    present: Vec<String>,
    named: BTreeMap<String, Want>,
}

impl Looked {
    /// It, as the choice sees it.
    pub fn scene(&self) -> Scene<'_> {
        let Self { inventory, held, held_mdevs, present, named } = self;
        Scene { inventory, held, held_mdevs, present, named }
    }
}

/// Chooses for each machine, and tells by which way. With `--claim` the claim chooses.
pub fn choose(pod: &Pod, way: Way, machines: &mut [Machine]) -> Result<devices::Way, Refusal> {
    if machines.iter().all(|machine| machine.wanted.is_empty()) {
        return Ok(devices::Way::Nodes);
    }
    if pod.no_host() {
        warn("--host none: devices have their usual names, and nothing was checked on a host");
        for machine in machines {
            machine.devices = fixed(&machine.wanted);
        }
        return Ok(devices::Way::Nodes);
    }
    if pod.claim {
        say("devices by VFIO, claimed and prepared by Handover");
        return Ok(devices::Way::Vfio);
    }
    let host = look(pod, machines)?;
    let way = match way {
        Way::Auto => None,
        Way::Nodes => Some(devices::Way::Nodes),
        Way::Vfio => Some(devices::Way::Vfio),
    };
    let wanted: Vec<&[Wanted]> = machines.iter().map(|one| one.wanted.as_slice()).collect();
    let (way, chosen) = devices::choose(&wanted, &host.scene(), way);
    say(way.sentence());
    for (machine, devices) in machines.iter_mut().zip(chosen) {
        machine.devices = devices;
    }
    Ok(way)
}

/// Looks at the host.
pub fn look(pod: &Pod, machines: &[Machine]) -> Result<Looked, Refusal> {
    let source = Source { root: PathBuf::from(&pod.host) };
    let host = source.open()?;
    let mut inventory = source.inventory(&host)?;
    let told_in_detail = detailed(&inventory, machines);
    if !told_in_detail.is_empty() {
        inventory = source.detail(&host, Some(&told_in_detail))?;
    }
    let addresses: Vec<Address> = inventory.functions.keys().copied().collect();
    let (mut held, mut held_mdevs) = (BTreeMap::new(), BTreeMap::new());
    // Who uses a device is told as far as this user may see it.
    for holder in host.holders(&addresses).unwrap_or_default() {
        let waits = holder
            .program
            .as_deref()
            .is_some_and(|one| WAIT_ON_OTHERS.iter().any(|program| one.starts_with(program)));
        let who = format!("{} ({})", holder.user, holder.by);
        match holder.mdev {
            // The parent of a mediated device goes on serving others.
            Some(uuid) => drop(held_mdevs.entry(uuid).or_insert(who)),
            None if !waits => drop(held.entry(holder.address).or_insert(who)),
            None => {}
        }
    }
    let mut present = Vec::new();
    if pod.this_host() {
        for (what, who) in claims(pod, machines) {
            match (what.parse::<Address>(), what.parse::<Uuid>()) {
                (Ok(address), _) => drop(held.insert(address, who)),
                (_, Ok(uuid)) => drop(held_mdevs.insert(uuid, who)),
                _ => {}
            }
        }
        present.extend(
            ["/dev/kfd".to_owned()]
                .into_iter()
                .filter(|path| std::fs::exists(path).unwrap_or(false)),
        );
    }
    Ok(Looked {
        inventory,
        held,
        held_mdevs,
        present,
        named: pod.resources.iter().cloned().collect(),
    })
}

/// The functions of which more must be known: the names of profiles and a GPU's instances are detail.
fn detailed(inventory: &Inventory, machines: &[Machine]) -> Vec<Address> {
    let wanted = || machines.iter().flat_map(|one| &one.wanted);
    let profiles = wanted().any(|one| one.resource.profile().is_some());
    let gpus = wanted().any(|one| one.place == Place::Gpu);
    let is_told = |function: &&Function| {
        (profiles && !function.mdevs.is_empty()) || (gpus && function.nodes.nvidia_minor.is_some())
    };
    inventory.functions.values().filter(is_told).map(|function| function.address).collect()
}

/// What a daemon says that others have claimed, by address or UUID; nothing where none runs.
fn claims(pod: &Pod, machines: &[Machine]) -> Vec<(String, String)> {
    let claims =
        pod.door.connection.talk(async |client| client.get::<Vec<api::Claim>>("/claims").await);
    let own: Vec<String> = machines.iter().map(super::claimed::owner).collect();
    let others = claims.unwrap_or_default().into_iter().filter(|claim| !own.contains(&claim.owner));
    let members = |claim: api::Claim| {
        let who = format!("the claim of {}", claim.owner);
        let what = |part: api::ClaimPart| {
            let taken = part.members.into_iter().filter(|member| member.role != "bystander");
            taken.map(|member| member.address).chain(part.mdev).collect::<Vec<_>>()
        };
        let all = claim.parts.into_iter().flat_map(what);
        all.map(|what| (what, who.clone())).collect::<Vec<_>>()
    };
    others.flat_map(members).collect()
}
