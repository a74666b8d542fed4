//! Chooses and claims the host's devices for the machines.

use std::path::{Path, PathBuf};

use convert::devices::{self, fixed};
use model::{Address, Code, Host, Refusal};
use service::cdi;
use service::pods::{self, ClaimedFor, KnownHost, Machine, Wishes};

use super::{Pod, Way, say, warn};
use crate::source::Source;

/// Prints each claim to standard error.
pub struct Printed;

impl ClaimedFor for Printed {
    fn claimed(&self, machine: &Machine) {
        say(&format!(
            "claimed for {}; to release: handover pod --down {}",
            machine.owner(),
            machine.name()
        ));
    }

    fn note(&self, note: &str) {
        warn(note);
    }
}

/// Chooses devices for each machine, and reports the way. With `--claim` the claim chooses.
pub fn choose(pod: &Pod, way: Way, machines: &mut [Machine]) -> Result<devices::Way, Refusal> {
    if machines.iter().all(|machine| machine.wanted.is_empty()) {
        return Ok(devices::Way::Nodes);
    }
    if pod.no_host() {
        warn("--host none: default device names, not checked on a host");
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
    let way = pods::choose(machines, &host, way);
    // An error says what is not so.
    if machines.iter().all(|machine| machine.devices.missing.is_empty()) {
        say(way.sentence());
    }
    Ok(way)
}

/// Claims for each machine.
pub fn claim(pod: &Pod, machines: &mut [Machine]) -> Result<(), Refusal> {
    let host = look(pod, machines)?;
    let wishes = Wishes {
        uid: pod.uid,
        evict: pod.evict,
        force_network: pod.force_network,
        by_name: pod.cdi,
    };
    pods::claim(machines, &host, &pod.backend, wishes, &Printed)
}

/// Makes each pod request its devices by CDI name.
pub fn ask_by_name(pod: &Pod, machines: &mut [Machine]) -> Result<(), Refusal> {
    let known = if pod.this_host() { Some(cdi::names(&pod.backend.cdi_dir)?) } else { None };
    pod.accept(pods::ask_by_name(machines, known.as_deref()))
}

/// Limits the GPU memory of the machines that have a limit.
pub fn limit_memory(pod: &Pod, way: devices::Way, machines: &mut [Machine]) -> Result<(), Refusal> {
    pods::limit(machines, pod.gpu_memory_limit, way, || {
        if pod.no_host() {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "a GPU memory limit needs the dmem regions of a host, but --host is none",
                "name a recording of the host (`handover record`), or run the command on the host",
            ));
        }
        Ok(source(pod).open()?.platform())
    })
}

fn source(pod: &Pod) -> Source {
    Source { root: PathBuf::from(&pod.host) }
}

/// Reads the host.
fn look(pod: &Pod, machines: &[Machine]) -> Result<KnownHost, Refusal> {
    let source = source(pod);
    let host = source.open()?;
    let mut inventory = source.inventory(&host)?;
    let told_in_detail = pods::detailed(&inventory, machines);
    if !told_in_detail.is_empty() {
        inventory = source.detail(&host, Some(&told_in_detail))?;
    }
    let addresses: Vec<Address> = inventory.functions.keys().copied().collect();
    let mut known = KnownHost::new(inventory, pod.resources.iter().cloned().collect());
    // Shows the users of a device that this user may see.
    known.add_holders(host.holders(&addresses).unwrap_or_default());
    if pod.this_host() {
        // Empty if no daemon runs.
        let connection = &pod.backend.connection;
        let claims = connection.talk(async |client| client.get::<Vec<api::Claim>>("/claims").await);
        known.add_claims(&claims.unwrap_or_default(), machines);
        let shared = ["/dev/kfd"].into_iter().filter(|path| Path::new(path).exists());
        known.present.extend(shared.map(str::to_owned));
    }
    Ok(known)
}
