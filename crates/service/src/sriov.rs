//! The configured VF counts.

use api::VfConfiguration;
use engine::Engine;
use model::Refusal;

/// The configured VF counts.
///
/// # Errors
/// The store cannot be read.
pub fn list(engine: &Engine) -> Result<Vec<VfConfiguration>, Refusal> {
    let all = engine.vf_counts().all()?;
    let show = |one: engine::VfConfiguration| VfConfiguration {
        pci_address: one.address.to_string(),
        count: one.count,
        autoprobe: one.autoprobe,
    };
    Ok(all.into_iter().map(show).collect())
}
