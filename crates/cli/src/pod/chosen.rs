//! Which of the host's devices the machines get.

use std::collections::BTreeMap;
use std::path::PathBuf;

use convert::devices::{self, Scene, Wanted, fixed};
use model::choose::Want;
use model::{Address, Host, Inventory, Refusal};

use super::{Machine, Pod, Way, say, warn};
use crate::source::Source;

/// Programs that keep devices open for others, and let them go by themselves.
const WAIT_ON_OTHERS: [&str; 3] = ["nvidia-persiste", "systemd-logind", "nvidia-powerd"];

/// What is known of the host.
pub struct Looked {
    /// Its hardware.
    pub inventory: Inventory,
    held: BTreeMap<Address, String>,
    present: Vec<String>,
    named: BTreeMap<String, Want>,
}

impl Looked {
    /// It, as the choice sees it.
    pub fn scene(&self) -> Scene<'_> {
        let Self { inventory, held, present, named } = self;
        Scene { inventory, held, present, named }
    }
}

/// Chooses for each machine. With `--claim` the claim chooses.
pub fn choose(pod: &Pod, way: Way, machines: &mut [Machine]) -> Result<(), Refusal> {
    if machines.iter().all(|machine| machine.wanted.is_empty()) {
        return Ok(());
    }
    if pod.no_host() {
        warn("--host none: devices have their usual names, and nothing was checked on a host");
        for machine in machines {
            machine.devices = fixed(&machine.wanted);
        }
        return Ok(());
    }
    if pod.claim {
        say("devices by VFIO, claimed and prepared by Handover");
        return Ok(());
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
    Ok(())
}

/// Looks at the host.
pub fn look(pod: &Pod, machines: &[Machine]) -> Result<Looked, Refusal> {
    let source = Source { root: PathBuf::from(&pod.host) };
    let host = source.open()?;
    let mut inventory = source.inventory(&host)?;
    let profiles = machines.iter().flat_map(|one| &one.wanted);
    if profiles.into_iter().any(|one| one.resource.profile().is_some()) {
        // The names of profiles are detail.
        let parents = inventory.functions.values().filter(|one| !one.mdevs.is_empty());
        let parents: Vec<Address> = parents.map(|parent| parent.address).collect();
        if !parents.is_empty() {
            inventory = source.detail(&host, Some(&parents))?;
        }
    }
    let addresses: Vec<Address> = inventory.functions.keys().copied().collect();
    let mut held = BTreeMap::new();
    // Who uses a device is told as far as this user may see it.
    for holder in host.holders(&addresses).unwrap_or_default() {
        let waits = holder
            .program
            .as_deref()
            .is_some_and(|one| WAIT_ON_OTHERS.iter().any(|program| one.starts_with(program)));
        if !waits {
            held.entry(holder.address)
                .or_insert_with(|| format!("{} ({})", holder.user, holder.by));
        }
    }
    let mut present = Vec::new();
    if pod.this_host() {
        held.extend(claims(pod, machines));
        present.extend(
            ["/dev/kfd".to_owned()]
                .into_iter()
                .filter(|path| std::fs::exists(path).unwrap_or(false)),
        );
    }
    Ok(Looked { inventory, held, present, named: pod.resources.iter().cloned().collect() })
}

/// What a daemon says that others have claimed; nothing where none runs.
fn claims(pod: &Pod, machines: &[Machine]) -> Vec<(Address, String)> {
    let claims =
        pod.door.connection.talk(async |client| client.get::<Vec<api::Claim>>("/claims").await);
    let own: Vec<String> = machines.iter().map(super::claimed::owner).collect();
    let others = claims.unwrap_or_default().into_iter().filter(|claim| !own.contains(&claim.owner));
    let members = |claim: api::Claim| {
        let who = format!("the claim of {}", claim.owner);
        let parts = claim.parts.into_iter().flat_map(|part| part.members);
        let taken = parts.filter(|member| member.role != "bystander");
        let addresses = taken.filter_map(|member| member.address.parse::<Address>().ok());
        addresses.map(|address| (address, who.clone())).collect::<Vec<_>>()
    };
    others.flat_map(members).collect()
}
