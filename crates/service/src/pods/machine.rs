//! A virtual machine that is being converted to a pod.

use convert::devices::{Devices, Wanted, wanted};
use convert::input::{Document, Kind};
use convert::pod::{self, Settings};
use convert::{Instance, Presets};
use model::{Code, Refusal};
use serde_json::Value;

/// A machine, the devices that it requests, and those that it gets.
#[derive(Debug)]
pub struct Machine {
    /// The instance, with KubeVirt's defaults.
    pub instance: Instance,
    /// The requested devices.
    pub wanted: Vec<Wanted>,
    /// The chosen devices.
    pub devices: Devices,
}

impl Machine {
    /// Its name, with its namespace.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.instance.namespace(), self.instance.name())
    }

    /// The owner of claims for its pod.
    #[must_use]
    pub fn owner(&self) -> String {
        owner(self.instance.namespace(), self.instance.name())
    }

    /// The objects that podman plays.
    pub fn objects(&mut self, settings: &Settings) -> Vec<Value> {
        pod::objects(&mut self.instance, settings, &self.devices)
    }

    /// Explains each volume and device; call after [`objects`](Self::objects).
    #[must_use]
    pub fn explain(&self, settings: &Settings) -> String {
        convert::explain(&self.instance, settings, &self.devices)
    }

    /// Notes for the user.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.instance.notes.iter().chain(&self.devices.notes)
    }
}

/// The owner of claims for a machine's pod.
#[must_use]
pub fn owner(namespace: &str, name: &str) -> String {
    format!("pod/{namespace}/{name}")
}

/// Separates the machines from the other documents.
#[must_use]
pub fn apart(documents: Vec<Document>) -> (Vec<Document>, Vec<Document>) {
    let machine = |one: &Document| matches!(one.kind, Kind::Machine | Kind::Instance);
    documents.into_iter().partition(machine)
}

/// The machines among documents; instance types and preferences are taken from the documents and `given`. `place` names
/// the source, for messages.
///
/// # Errors
/// There is no machine, or one is invalid.
pub fn machines(
    documents: Vec<Document>,
    given: Vec<Document>,
    place: &str,
) -> Result<Vec<Machine>, Refusal> {
    let (machines, beside) = apart(documents);
    if machines.is_empty() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("no virtual machine in {place}"),
            "add a VirtualMachine or a VirtualMachineInstance of kubevirt.io/v1",
        ));
    }
    let presets = Presets { given, beside };
    let machine = |document| {
        let instance = Instance::of(document, &presets)?;
        Ok(Machine { wanted: wanted(&instance), instance, devices: Devices::default() })
    };
    machines.iter().map(machine).collect()
}
