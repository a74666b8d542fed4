//! `handover pod --cdi`: the pod asks for its devices by the names that container tools have for them.

use convert::cdi::DEVICE;
use model::{Code, Refusal};

use super::{Machine, Pod};
use crate::cdi;

/// Has each pod ask for its devices by name. A claim has its name already, and its file by itself.
pub fn ask(pod: &Pod, machines: &mut [Machine]) -> Result<(), Refusal> {
    let mut missing = Vec::new();
    for machine in machines {
        if !machine.devices.names.is_empty() {
            continue;
        }
        let functions = machine.devices.functions.iter().map(ToString::to_string);
        let mdevs = machine.devices.mdevs.iter().map(ToString::to_string);
        let devices: Vec<String> = functions.chain(mdevs).collect();
        if pod.this_host() {
            let known = cdi::names(&pod.door.cdi_dir)?;
            let unknown = |one: &&String| !known.contains(&named(one));
            missing.extend(devices.iter().filter(unknown).map(|one| untold(one)));
        }
        machine.devices.ask_by(devices.iter().map(|one| named(one)).collect());
    }
    pod.accept(missing)
}

fn named(device: &str) -> String {
    format!("{DEVICE}={device}")
}

fn untold(device: &str) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("container tools do not know {}", named(device)),
        format!("sudo handover cdi generate {device}, or let --claim do it"),
    )
}
