//! Looking at instances.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::Refusal;

use crate::core::Core;
use crate::store::StoredInstance;
use crate::{Instance, InstanceState};

impl Core {
    pub fn instances(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Instance>, Refusal> {
        let rows = self.store.read(StoredInstance::all)?;
        let all = rows.into_iter().map(|row| row.instance);
        Ok(all.filter(|instance| has_tags(&instance.tags, tags)).collect())
    }

    /// Waits for a state; gives the instance as it is then, or when the time is over.
    pub fn wait(
        &self,
        key: &str,
        state: InstanceState,
        timeout: Duration,
    ) -> Result<Instance, Refusal> {
        let now = Instant::now();
        let until = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400));
        let mut seen = self.wait_for_change(u64::MAX, Instant::now());
        loop {
            let instance = self.stored_instance(key)?.instance;
            if instance.state == state || Instant::now() >= until {
                return Ok(instance);
            }
            seen = self.wait_for_change(seen, until);
        }
    }

    pub fn console(&self, key: &str) -> Result<PathBuf, Refusal> {
        let instance = self.stored_instance(key)?.instance;
        Ok(self.launcher(&instance.hypervisor)?.console(instance.id))
    }
}

/// Whether all labels asked for are there.
pub fn has_tags(have: &BTreeMap<String, String>, asked: &BTreeMap<String, String>) -> bool {
    asked.iter().all(|(key, value)| have.get(key) == Some(value))
}
