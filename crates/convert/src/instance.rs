//! Converts a document to the launcher's instance: applies presets and fills in all defaults.

use model::{Code, Refusal};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::input::{Document, Kind};
use crate::quantity::Quantity;
use crate::values::Below as _;
use crate::{defaults, instancetype, network, preference, rules, standalone};

/// The namespace of the UUIDs that KubeVirt derives from names (pkg/virt-controller/watch/vm/firmware.go).
const FIRMWARE_UUIDS: Uuid = Uuid::from_u128(0x6a1a_24a1_4061_4607_8bf4_a396_3d0c_5895);

/// The version of the PCI topology of new machines.
const TOPOLOGY: &str = "kubevirt.io/pci-topology-version";

/// Instance types and preferences that machines can use.
#[derive(Clone, Debug, Default)]
pub struct Presets {
    /// Those of the files for presets.
    pub given: Vec<Document>,
    /// Those in the machine's own file.
    pub beside: Vec<Document>,
}

/// An instance as KubeVirt would start it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The `VirtualMachineInstance`.
    pub object: Value,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl Presets {
    /// The preset that a machine names, or the only one given.
    fn find(&self, kind: Kind, machine: &str, named: &str) -> Result<Option<&Document>, Refusal> {
        let (word, flag) = match kind {
            Kind::Instancetype => ("instance type", "--instancetype-file"),
            _ => ("preference", "--preference-file"),
        };
        let mut given = self.given.iter().filter(|one| one.kind == kind);
        if named.is_empty() {
            // As in a cluster, a machine uses none of several that it does not name.
            let only = given.next();
            return Ok(only.filter(|_| given.next().is_none()));
        }
        let beside = self.beside.iter().filter(|one| one.kind == kind);
        match given.chain(beside).find(|one| one.name() == named) {
            Some(found) => Ok(Some(found)),
            None => Err(Refusal::new(
                Code::InvalidRequest,
                format!(
                    "virtual machine {machine} uses the {word} {named}, which no given file contains"
                ),
                format!("provide it with {flag} FILE, or add it to the machine's file"),
            )),
        }
    }
}

impl Presets {
    /// A note that a machine that names none uses none of several presets.
    fn unused(&self, kind: Kind) -> Option<String> {
        let count = self.given.iter().filter(|one| one.kind == kind).count();
        let field = field(kind);
        (count > 1).then(|| {
            format!("{count} documents of the kind {field} are given, but the machine uses none: it has no spec.{field}.name")
        })
    }
}

const fn field(kind: Kind) -> &'static str {
    if matches!(kind, Kind::Instancetype) { "instancetype" } else { "preference" }
}

impl Instance {
    /// The instance of a `VirtualMachine` or a `VirtualMachineInstance`.
    ///
    /// # Errors
    /// Why the machine is invalid, or needs a cluster.
    pub fn of(document: &Document, presets: &Presets) -> Result<Self, Refusal> {
        let name = document.name();
        let object = &document.object;
        let mut instance = Self { object: bare(document), notes: Vec::new() };
        let named = |kind: Kind| object.text(&format!("spec.{}.name", field(kind))).to_owned();
        let machine = document.kind == Kind::Machine;
        let named = |kind: Kind| if machine { named(kind) } else { String::new() };
        let kind = presets.find(Kind::Instancetype, name, &named(Kind::Instancetype))?;
        let liking = presets.find(Kind::Preference, name, &named(Kind::Preference))?;
        if let Some(liking) = liking.and_then(|liking| liking.object.at("spec")) {
            preference::autoattach(liking, instance.spec_mut());
        }
        instance.attach_input();
        defaults::volume_disks(instance.spec_mut());
        instance.expand(kind, liking)?;
        standalone::check(name, instance.spec())?;
        defaults::apply(instance.spec_mut());
        if instance.spec().quantity("domain.memory.guest").is_none_or(Quantity::is_zero) {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!("virtual machine {name} has no memory"),
                "set spec.template.spec.domain.memory.guest, such as 2Gi, or use an instance type",
            ));
        }
        instance.check_rules(document.kind, kind.is_some() || liking.is_some())?;
        for (preset, of) in [(kind, Kind::Instancetype), (liking, Kind::Preference)] {
            if machine && preset.is_none() {
                instance.notes.extend(presets.unused(of));
            }
        }
        instance.finish();
        Ok(instance)
    }

    /// Checks KubeVirt's rules for what instance types, preferences and defaults have set.
    fn check_rules(&self, kind: Kind, presets: bool) -> Result<(), Refusal> {
        let problems = rules::complete(kind, self.spec(), presets);
        let mut all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let mut remedies: Vec<&str> = problems.iter().map(|one| one.remedy.as_str()).collect();
        if let Some((key, why, remedy)) = rules::refused_annotations(&self.object) {
            all.push(format!("the annotation {key} {why}"));
            remedies.push(remedy);
        }
        if all.is_empty() {
            return Ok(());
        }
        remedies.dedup();
        let message = format!("virtual machine {}: {}", self.name(), all.join("; "));
        Err(Refusal::new(Code::InvalidRequest, message, remedies.join("; ")))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object.text("metadata.name")
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.object.text("metadata.namespace")
    }

    /// Its `spec`.
    #[must_use]
    pub fn spec(&self) -> &Value {
        self.object.get("spec").unwrap_or(&Value::Null)
    }

    fn spec_mut(&mut self) -> &mut Value {
        self.object.make("spec")
    }

    /// An annotation, if present.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.object.at("metadata.annotations")?.get(key)?.as_str()
    }

    /// A label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.object.at("metadata.labels")?.get(key)?.as_str()
    }

    /// `autoattachInputDevice` adds a tablet, whose bus and type come from the preference or defaults.
    fn attach_input(&mut self) {
        let spec = self.spec_mut();
        let wanted = spec.switch("domain.devices.autoattachInputDevice") == Some(true);
        if wanted && spec.list("domain.devices.inputs").is_empty() {
            spec.push("domain.devices.inputs", json!({ "name": "default-0" }));
        }
    }

    /// Applies an instance type and a preference.
    fn expand(
        &mut self,
        kind: Option<&Document>,
        liking: Option<&Document>,
    ) -> Result<(), Refusal> {
        let none = Value::Null;
        let spec_of =
            |document: &Document| document.object.get("spec").cloned().unwrap_or_default();
        let preferred = liking.map(spec_of);
        if let Some(document) = kind {
            let kind = spec_of(document);
            let mut conflicts = instancetype::apply(&kind, preferred.as_ref(), self.spec_mut());
            conflicts.extend(instancetype::annotate(&kind, self.object.make("metadata")));
            if !conflicts.is_empty() {
                return Err(self.conflict(document.name(), &conflicts));
            }
            self.check_topology(&kind, document.name())?;
        }
        self.name_presets(kind, liking);
        let Some(document) = liking else { return Ok(()) };
        let preferred = preferred.as_ref().unwrap_or(&none);
        let guest = kind.map(|kind| kind.object.number("spec.cpu.guest"));
        preference::apply(preferred, self.spec_mut());
        for (key, value) in preferred.entries("annotations") {
            let own = self.object.make("metadata.annotations");
            if own.get(key).is_none() {
                own[key] = value.clone();
            }
        }
        let unmet = preference::unmet(preferred, guest, self.spec());
        if !unmet.is_empty() {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!(
                    "virtual machine {} does not meet the requirements of its preference {}: {}",
                    self.name(),
                    document.name(),
                    unmet.join("; ")
                ),
                "use a larger instance type, or another preference",
            ));
        }
        Ok(())
    }

    fn conflict(&self, kind: &str, conflicts: &[String]) -> Refusal {
        Refusal::new(
            Code::InvalidRequest,
            format!(
                "virtual machine {} sets fields that its instance type {kind} also sets: {}",
                self.name(),
                conflicts.join(", ")
            ),
            "remove these from the machine, or use no instance type",
        )
    }

    /// Refuses a number of CPUs that the preferred topology would silently change.
    fn check_topology(&self, kind: &Value, name: &str) -> Result<(), Refusal> {
        let wanted = kind.number("cpu.guest");
        let product = crate::overhead::vcpus(self.spec());
        if wanted == product && wanted > 0 {
            return Ok(());
        }
        Err(Refusal::new(
            Code::InvalidRequest,
            format!(
                "the {wanted} CPUs of the instance type {name} do not fit the topology of the preference"
            ),
            "use a multiple of the ratio, or the topology `sockets`",
        ))
    }

    /// Annotates the presets, as KubeVirt does.
    fn name_presets(&mut self, kind: Option<&Document>, liking: Option<&Document>) {
        for (document, what) in [(kind, "instancetype"), (liking, "preference")] {
            let Some(document) = document else { continue };
            let cluster = document.object.text("kind").contains("Cluster");
            let key = format!("kubevirt.io/{}{what}-name", if cluster { "cluster-" } else { "" });
            self.object.make("metadata.annotations")[key] = document.name().into();
        }
    }

    /// Fills in what the `spec` does not have: the firmware's UUID, the PCI topology, the status.
    fn finish(&mut self) {
        let uuid = Uuid::new_v5(&FIRMWARE_UUIDS, self.name().as_bytes()).to_string();
        self.spec_mut().set_default("domain.firmware.uuid", uuid);
        let machine = self.spec().text("domain.machine.type");
        let architecture = self.spec().text("architecture");
        let express = (machine.contains("q35") || machine.starts_with("virt"))
            && matches!(architecture, "" | "amd64" | "arm64");
        if express && self.annotation(TOPOLOGY).is_none() {
            self.object.make("metadata.annotations")[TOPOLOGY] = "v3".into();
        }
        let guest = self.spec().at("domain.memory.guest").cloned().unwrap_or_default();
        let count = |field: &str| self.spec().number(&format!("domain.cpu.{field}"));
        let status = json!({
            "currentCPUTopology": {
                "cores": count("cores"),
                "sockets": count("sockets"),
                "threads": count("threads"),
            },
            "guestOSInfo": {},
            "memory": { "guestAtBoot": guest, "guestCurrent": guest, "guestRequested": guest },
            "runtimeUser": 107,
        });
        self.object.set("status", status);
    }

    /// Binds its interfaces with passt; `keep_sriov` excludes those of virtual functions.
    pub(crate) fn use_passt(&mut self, keep_sriov: bool) {
        let notes = network::bind_by_passt(self.spec_mut(), keep_sriov);
        self.notes.extend(notes);
    }

    /// Assigns the pod's interfaces, which virt-handler does in a cluster.
    pub(crate) fn name_interfaces(&mut self) {
        let interfaces = self.spec().list("domain.devices.interfaces").iter().enumerate();
        let all: Vec<Value> = interfaces
            .map(|(number, interface)| {
                json!({ "name": interface.text("name"), "podInterfaceName": format!("eth{number}") })
            })
            .collect();
        if !all.is_empty() {
            self.object.set("status.interfaces", all);
        }
    }
}

/// The instance before defaults.
fn bare(document: &Document) -> Value {
    let object = &document.object;
    let machine = document.kind == Kind::Machine;
    let (metadata, spec) = if machine {
        ("spec.template.metadata", "spec.template.spec")
    } else {
        ("metadata", "spec")
    };
    let mut own = Map::new();
    own.insert("name".into(), document.name().into());
    own.insert("namespace".into(), document.namespace().into());
    own.insert("annotations".into(), json!({}));
    for field in ["labels", "annotations"] {
        if let Some(value) = object.at(&format!("{metadata}.{field}")) {
            own.insert(field.into(), value.clone());
        }
    }
    if machine {
        own.insert("ownerReferences".into(), json!([owner("VirtualMachine", object)]));
    }
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": own,
        "spec": object.at(spec).cloned().unwrap_or_default(),
    })
}

/// A reference to an owner.
pub(crate) fn owner(kind: &str, object: &Value) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "blockOwnerDeletion": true,
        "controller": true,
        "kind": kind,
        "name": object.text("metadata.name"),
        "uid": object.text("metadata.uid"),
    })
}
