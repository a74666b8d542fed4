//! A virtual machine on its way to a pod.

use convert::devices::{Devices, Wanted, wanted};
use convert::input::{Document, Kind};
use convert::pod::{self, Settings};
use convert::{Instance, Presets};
use model::{Code, Refusal};
use serde_json::Value;

/// A machine, the devices that it asks for, and those that it gets.
#[derive(Debug)]
pub struct Machine {
    /// The machine, with all that KubeVirt fills in.
    pub instance: Instance,
    /// What it asks for.
    pub wanted: Vec<Wanted>,
    /// What it gets.
    pub devices: Devices,
}

impl Machine {
    /// Its name with its namespace.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.instance.namespace(), self.instance.name())
    }

    /// The owner of what is claimed for its pod.
    #[must_use]
    pub fn owner(&self) -> String {
        owner(self.instance.namespace(), self.instance.name())
    }

    /// The objects that podman plays.
    pub fn objects(&mut self, settings: &Settings) -> Vec<Value> {
        pod::objects(&mut self.instance, settings, &self.devices)
    }

    /// Why each volume and device is there; after [`objects`](Self::objects).
    #[must_use]
    pub fn explain(&self, settings: &Settings) -> String {
        convert::explain(&self.instance, settings, &self.devices)
    }

    /// What a person should know of it.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.instance.notes.iter().chain(&self.devices.notes)
    }
}

/// The owner of what is claimed for a machine's pod.
#[must_use]
pub fn owner(namespace: &str, name: &str) -> String {
    format!("pod/{namespace}/{name}")
}

/// The machines, and what is beside them in the same text.
#[must_use]
pub fn apart(documents: Vec<Document>) -> (Vec<Document>, Vec<Document>) {
    let machine = |one: &Document| matches!(one.kind, Kind::Machine | Kind::Instance);
    documents.into_iter().partition(machine)
}

/// The machines among documents; instance types and preferences are those beside them, or `given`. `place` is where the
/// documents were, for a message.
///
/// # Errors
/// Where there is no machine, or something is wrong with one.
pub fn machines(
    documents: Vec<Document>,
    given: Vec<Document>,
    place: &str,
) -> Result<Vec<Machine>, Refusal> {
    let (machines, beside) = apart(documents);
    if machines.is_empty() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("there is no virtual machine in {place}"),
            "give a VirtualMachine or a VirtualMachineInstance of kubevirt.io/v1",
        ));
    }
    let presets = Presets { given, beside };
    let machine = |document| {
        let instance = Instance::of(document, &presets)?;
        Ok(Machine { wanted: wanted(&instance), instance, devices: Devices::default() })
    };
    machines.iter().map(machine).collect()
}
