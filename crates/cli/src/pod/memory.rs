//! How much of its GPUs' memory a machine's pod may take.

use std::path::PathBuf;

use convert::devices::{Way, asked, limit as limited};
use model::{Code, Refusal};

use super::{Machine, Pod};
use crate::source::Source;

/// Limits the memory of those machines that a limit is asked for.
pub fn limit(pod: &Pod, way: Way, machines: &mut [Machine]) -> Result<(), Refusal> {
    let all = machines.iter().map(|one| (&one.instance, one.wanted.as_slice()));
    let limits = asked(all, pod.gpu_memory_limit)?;
    if limits.iter().all(Option::is_none) {
        return Ok(());
    }
    if pod.no_host() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "GPU memory is limited by regions of the host's kernel, and --host none looks at none",
            "give a recording of the host (handover record), or run it there",
        ));
    }
    let platform = Source { root: PathBuf::from(&pod.host) }.open()?.platform();
    for (machine, asked) in machines.iter_mut().zip(limits) {
        if let Some(asked) = asked {
            limited(&mut machine.devices, &machine.wanted, asked, way, &platform)?;
        }
    }
    Ok(())
}
