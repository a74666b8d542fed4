//! Pods that ask for their devices by the names that container tools have for them.

use convert::cdi::DEVICE;
use model::{Code, Refusal};

use super::machine::Machine;

/// Has each pod ask for its devices by name; a claim has its name already. What is missing among the `known` names, where
/// they are known.
#[must_use]
pub fn ask_by_name(machines: &mut [Machine], known: Option<&[String]>) -> Vec<Refusal> {
    let mut missing = Vec::new();
    for machine in machines {
        if !machine.devices.names.is_empty() {
            continue;
        }
        let functions = machine.devices.functions.iter().map(ToString::to_string);
        let mdevs = machine.devices.mdevs.iter().map(ToString::to_string);
        let devices: Vec<String> = functions.chain(mdevs).collect();
        if let Some(known) = known {
            let unknown = |one: &&String| !known.contains(&named(one));
            missing.extend(devices.iter().filter(unknown).map(|one| untold(one)));
        }
        machine.devices.ask_by(devices.iter().map(|one| named(one)).collect());
    }
    missing
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
