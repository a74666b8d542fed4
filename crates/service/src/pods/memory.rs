//! How much of its GPUs' memory a machine's pod may take.

use convert::devices::{MemoryLimit, Way, asked, limit as limit_one};
use model::Refusal;
use model::doctor::Platform;

use super::machine::Machine;

/// Limits the memory of those machines that a limit is asked for; `said` is for all. The platform is read only where there
/// is such a machine: only the host can tell whether it keeps a limit.
///
/// # Errors
/// Where the limit is not readable, the platform cannot be read, or the kernel would not keep the limit.
pub fn limit(
    machines: &mut [Machine],
    said: Option<MemoryLimit>,
    way: Way,
    platform: impl FnOnce() -> Result<Platform, Refusal>,
) -> Result<(), Refusal> {
    let all = machines.iter().map(|one| (&one.instance, one.wanted.as_slice()));
    let limits = asked(all, said)?;
    if limits.iter().all(Option::is_none) {
        return Ok(());
    }
    let platform = platform()?;
    for (machine, asked) in machines.iter_mut().zip(limits) {
        if let Some(asked) = asked {
            limit_one(&mut machine.devices, &machine.wanted, asked, way, &platform)?;
        }
    }
    Ok(())
}
