//! The modes of GPUs that a request asks for: only NVIDIA's driver knows them.

use std::collections::BTreeMap;

use model::choose::Want;
use model::{Address, Code, Function, GpuModes, Id, Inventory, Kind, Refusal, on_or_off};

use super::Claims;

impl Claims {
    /// The GPUs that are not in the modes that a request asks for, each with its refusal. Adds the detail of GPUs to the inventory.
    pub(super) fn in_other_modes(
        &self,
        wants: &[Want],
        inventory: &mut Inventory,
    ) -> Result<BTreeMap<Address, Refusal>, Refusal> {
        let mut wanted = GpuModes::default();
        for want in wants {
            wanted = wanted.and(want.modes).ok_or_else(|| {
                Refusal::new(
                    Code::InvalidRequest,
                    "the GPUs of one request are to be in different modes",
                    "ask for them in several requests",
                )
            })?;
        }
        if wanted.is_nothing() {
            return Ok(BTreeMap::new());
        }
        let is_gpu = |function: &&Function| {
            matches!(function.kind(), Kind::Gpu | Kind::Accelerator)
                && function.physical_function.is_none()
        };
        let gpus: Vec<Address> =
            inventory.functions.values().filter(is_gpu).map(|gpu| gpu.address).collect();
        self.hardware.host.complete(inventory, &gpus);
        let gpus = gpus.iter().filter_map(|gpu| inventory.function(*gpu));
        Ok(gpus.filter_map(|gpu| Some((gpu.address, unmet(gpu, &wanted)?))).collect())
    }
}

/// The refusal of a GPU that is not in these modes.
fn unmet(gpu: &Function, wanted: &GpuModes) -> Option<Refusal> {
    let there = gpu.detail.as_ref().map(|detail| detail.modes).unwrap_or_default();
    let (key, name, on, is_on) = wanted.unmet(&there)?;
    let address = gpu.address;
    let asked = on_or_off(on);
    let (message, remedy) = match is_on {
        Some(is_on) => (
            format!("{name} of {address} is {}, and {asked} is asked for", on_or_off(is_on)),
            command(address, key, on),
        ),
        None if gpu.vendor != Id::NVIDIA => (
            format!("{address} is no NVIDIA GPU, so whether its {name} is {asked} is not known"),
            format!("leave `{key}=` out"),
        ),
        None => (
            format!(
                "whether {name} of {address} is {asked} is not known: NVIDIA's driver does not tell"
            ),
            format!(
                "`nvidia-smi -q -i {address}` must show it: install nvidia-smi, bind the GPU to nvidia (`handover return {address}`), and wake all GPUs of that driver; or leave `{key}=` out"
            ),
        ),
    };
    Some(Refusal::new(Code::InsufficientResources, message, remedy))
}

/// The command that changes a mode.
fn command(address: Address, key: &str, on: bool) -> String {
    let number = u8::from(on);
    match key {
        "ecc" => format!(
            "`nvidia-smi -i {address} -e {number}`, then reset the GPU (`nvidia-smi -i {address} -r`) or restart the host"
        ),
        "mig" => format!("`nvidia-smi -i {address} -mig {number}`"),
        _ => {
            let word = if on { "on" } else { "off" };
            format!(
                "set the mode of {address} with NVIDIA's gpu-admin-tools: `nvidia_gpu_tools.py --set-cc-mode={word} --reset-after-cc-mode-switch --gpu-bdf={address}`"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Detail;

    #[test]
    fn a_gpu_in_another_mode_is_refused_with_the_command_that_changes_it() {
        let mut gpu = Function::unknown("0000:41:00.0".parse().unwrap());
        gpu.vendor = Id::NVIDIA;
        let modes = GpuModes { ecc: Some(false), mig: Some(true), cc: None };
        gpu.detail = Some(Box::new(Detail { modes, ..Detail::default() }));
        let asked = |key: &str, on| {
            let mut wanted = GpuModes::default();
            wanted.set(key, on);
            unmet(&gpu, &wanted)
        };
        assert_eq!(asked("ecc", false), None);
        let ecc = asked("ecc", true).unwrap();
        assert!(ecc.message.contains("ECC of 0000:41:00.0 is off"), "{ecc:?}");
        assert!(ecc.remedy.contains("nvidia-smi -i 0000:41:00.0 -e 1"), "{ecc:?}");
        assert!(asked("mig", false).unwrap().remedy.contains("-mig 0"));
        assert!(asked("cc", true).unwrap().message.contains("not known"));
    }
}
