//! Pods that request their devices by CDI name.

use convert::cdi::DEVICE;
use model::{Code, Refusal};

use super::machine::Machine;

/// Makes each pod request its devices by CDI name; claims have their name already. Returns refusals for names that are
/// not among `known`.
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
        format!("no CDI spec defines {}", named(device)),
        format!("run `sudo handover cdi generate {device}`, or use --claim"),
    )
}
