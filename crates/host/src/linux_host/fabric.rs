//! Asking for the fabric sets.

use model::{FabricSets, HostError};

use super::{LinuxHost, READING, unexpected};
use crate::fabric;
use crate::worker_pool::{Answer, Job};

impl LinuxHost {
    /// The sets of GPUs that NVSwitch isolates. What the programs of another host's tree would say is not known.
    pub(super) fn read_fabric(&self) -> Result<Option<FabricSets>, HostError> {
        if !self.root.is_host() || !fabric::may_have(&self.root) {
            return Ok(None);
        }
        if self.working.is_none() {
            return fabric::read(&self.root);
        }
        match self.call(Job::ReadFabric, None, READING)? {
            Answer::Fabric(sets) => Ok(sets),
            other => Err(unexpected(&Job::ReadFabric, &other)),
        }
    }
}
