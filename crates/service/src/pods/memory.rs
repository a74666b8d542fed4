//! Limits the GPU memory of pods.

use convert::devices::{MemoryLimit, Way, asked, limit as limit_one};
use model::Refusal;
use model::doctor::Platform;

use super::machine::Machine;

/// Limits the GPU memory of the machines that request it; `said` applies to all. The platform, which shows whether the
/// host can enforce a limit, is read only if needed.
///
/// # Errors
/// The limit is invalid, the platform cannot be read, or the kernel cannot enforce the limit.
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
