//! The engine as the faces see it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{Availability, Claim, Code, Host, Inventory, Launcher, Refusal};

use crate::{
    AvailableDevice, AvailableFilter, Config, CreateInstance, Device, Image, ImportImage, Instance,
    InstanceState, Observer, Operation, RecoveryReport, RegisterDevice, Resources,
};

/// Everything that must survive a crash, behind one handle. Cloning it is cheap; all methods block.
#[derive(Clone)]
pub struct Engine {
    #[allow(dead_code)]
    inner: Arc<(Config, Arc<dyn Host>, Vec<Arc<dyn Launcher>>, Arc<dyn Observer>)>,
}

fn soon<T>() -> Result<T, Refusal> {
    Err(Refusal::new(Code::Internal, "this part of the engine is being written", "wait"))
}

#[allow(missing_docs, unused_variables, clippy::missing_errors_doc)]
impl Engine {
    pub fn open(
        config: Config,
        host: Arc<dyn Host>,
        launchers: Vec<Arc<dyn Launcher>>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Refusal> {
        Ok(Self { inner: Arc::new((config, host, launchers, observer)) })
    }
    pub fn recover(&self) -> Result<RecoveryReport, Refusal> {
        soon()
    }
    pub fn available(&self, filter: &AvailableFilter) -> Result<Vec<AvailableDevice>, Refusal> {
        soon()
    }
    pub fn register_device(&self, request: RegisterDevice) -> Result<Device, Refusal> {
        soon()
    }
    pub fn devices(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Device>, Refusal> {
        soon()
    }
    pub fn device(&self, key: &str) -> Result<Device, Refusal> {
        soon()
    }
    pub fn delete_device(&self, key: &str) -> Result<(), Refusal> {
        soon()
    }
    pub fn clear_device(&self, key: &str) -> Result<Device, Refusal> {
        soon()
    }
    pub fn staging_dir(&self) -> PathBuf {
        self.inner.0.state_dir.join("staging")
    }
    pub fn import_image(&self, request: ImportImage) -> Result<Image, Refusal> {
        soon()
    }
    pub fn images(&self) -> Result<Vec<Image>, Refusal> {
        soon()
    }
    pub fn image(&self, name: &str) -> Result<Image, Refusal> {
        soon()
    }
    pub fn delete_image(&self, name: &str) -> Result<(), Refusal> {
        soon()
    }
    pub fn create_instance(&self, request: CreateInstance) -> Result<Instance, Refusal> {
        soon()
    }
    pub fn instances(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Instance>, Refusal> {
        soon()
    }
    pub fn instance(&self, key: &str) -> Result<Instance, Refusal> {
        soon()
    }
    pub fn start_instance(&self, key: &str) -> Result<Instance, Refusal> {
        soon()
    }
    pub fn stop_instance(&self, key: &str) -> Result<Instance, Refusal> {
        soon()
    }
    pub fn delete_instance(&self, key: &str) -> Result<(), Refusal> {
        soon()
    }
    pub fn wait_instance(
        &self,
        key: &str,
        state: InstanceState,
        timeout: Duration,
    ) -> Result<Instance, Refusal> {
        soon()
    }
    pub fn console(&self, key: &str) -> Result<PathBuf, Refusal> {
        soon()
    }
    pub fn resources(&self) -> Result<Resources, Refusal> {
        soon()
    }
    pub fn inventory(&self) -> Result<Inventory, Refusal> {
        soon()
    }
    pub fn hypervisors(&self) -> Vec<(&'static str, Availability)> {
        self.inner.2.iter().map(|launcher| (launcher.name(), launcher.availability())).collect()
    }
    pub fn claims(&self) -> Result<Vec<Claim>, Refusal> {
        soon()
    }
    pub fn journal(&self, limit: u32) -> Result<Vec<Operation>, Refusal> {
        soon()
    }
}
