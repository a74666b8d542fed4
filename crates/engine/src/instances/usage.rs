//! What the machines of instances use.

use jiff::Timestamp;
use model::{Code, Presence, Refusal, Usage};

use super::Instances;
use super::pause::runs;
use crate::{Instance, InstanceState};

impl Instances {
    /// An instance, and what its machine uses at this time; `None` if it does not run.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it is unknown whether it runs; `internal` if its use cannot be read.
    pub fn usage(&self, key: &str) -> Result<(Instance, Option<Usage>, Timestamp), Refusal> {
        let instance = self.find(key)?;
        if instance.state == InstanceState::Unknown {
            let why = instance.state_error.as_deref().unwrap_or("no reason given");
            return Err(super::unknown(&instance.name, why));
        }
        if !runs(&instance) {
            return Ok((instance, None, Timestamp::now()));
        }
        let launcher = self.launcher(&instance.hypervisor)?;
        match launcher.usage(instance.id) {
            Ok(usage) => Ok((instance, Some(usage), Timestamp::now())),
            // Its end is not recorded yet.
            Err(_) if launcher.find(instance.id) == Presence::Gone => {
                Ok((instance, None, Timestamp::now()))
            }
            Err(error) => Err(Refusal::new(
                Code::Internal,
                format!("cannot read what {:?} uses: {error}", instance.name),
                format!("`handover instance show {}` tells what it does", instance.name),
            )),
        }
    }
}
