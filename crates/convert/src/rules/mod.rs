//! KubeVirt's rules: what its schema and its admitters refuse. The table has those of single objects; the modules have
//! those between fields. Rules about a cluster's configuration and feature gates are not here.

mod annotations;
mod domain;
mod format;
mod network;
mod table;
mod volumes;

use std::collections::BTreeSet;
use std::fmt::Display;

use serde_json::Value;

use crate::kind::Kind;
use crate::values::Below as _;

pub use annotations::refused as refused_annotations;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the field.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.path, self.what)
    }
}

/// What was found in an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Broken rules.
    pub problems: Vec<Problem>,
    /// What KubeVirt accepts, but the user should know.
    pub notes: Vec<Problem>,
}

impl Found {
    /// Adds a broken rule.
    fn add(&mut self, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let (what, remedy) = (what.into(), remedy.into());
        self.problems.push(Problem { path: path.to_owned(), what, remedy });
    }

    /// Adds a note.
    fn note(&mut self, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let (what, remedy) = (what.into(), remedy.into());
        self.notes.push(Problem { path: path.to_owned(), what, remedy });
    }
}

/// The `spec` of an instance, and its path in the document.
struct Spec<'a> {
    path: &'a str,
    value: &'a Value,
}

impl Spec<'_> {
    /// The full path of a field.
    fn path(&self, field: &str) -> String {
        join(self.path, field)
    }

    /// The items of a list, with their full paths.
    fn items<'a>(&'a self, list: &'a str) -> impl Iterator<Item = (String, &'a Value)> {
        let items = self.value.list(list).iter().enumerate();
        items.map(move |(number, item)| (self.path(&format!("{list}.{number}")), item))
    }

    /// Whether an item of a list has this name.
    fn names(&self, list: &str, name: &str) -> bool {
        self.value.list(list).iter().any(|item| item.text("name") == name)
    }

    /// Whether an object is present, and not switched off by its `enabled`.
    fn enabled(&self, field: &str) -> bool {
        self.value.has(field) && self.value.switch(&join(field, "enabled")) != Some(false)
    }
}

/// The path of a field of an object.
fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// The start of a value, for messages.
fn short(value: &str) -> String {
    value.chars().take(80).collect()
}

/// Checks a document as it is written; `of` is its type.
pub fn written(kind: Kind, of: &'static str, object: &Value) -> Found {
    let mut found = Found::default();
    table::check(of, "", object, &mut found);
    let path = match kind {
        Kind::Machine => "spec.template.spec",
        Kind::Instance => "spec",
        Kind::Instancetype => {
            domain::instancetype(object, &mut found);
            return found;
        }
        Kind::Preference => {
            domain::preference(object, &mut found);
            return found;
        }
    };
    if kind == Kind::Machine {
        machine(object, &mut found);
    }
    annotations::check(kind, object, &mut found);
    if let Some(value) = object.at(path) {
        let spec = Spec { path, value };
        unique_names(&spec, &mut found);
        volumes::check(&spec, &mut found);
        network::check(&spec, &mut found);
        domain::written(&spec, &mut found);
        if !value.list("resourceClaims").is_empty() {
            let what = "is ignored: a cluster (DRA) allocates these devices";
            let remedy = "request devices with `deviceName` in gpus or hostDevices";
            found.note(&spec.path("resourceClaims"), what, remedy);
        }
    }
    found
}

/// Checks the `spec` of an instance after instance types, preferences and defaults; `presets` says whether there were any.
pub fn complete(kind: Kind, spec: &Value, presets: bool) -> Vec<Problem> {
    let mut found = Found::default();
    let path = if kind == Kind::Machine { "spec.template.spec" } else { "spec" };
    if presets {
        table::check("VirtualMachineInstanceSpec", path, spec, &mut found);
    }
    let spec = Spec { path, value: spec };
    volumes::complete(&spec, &mut found);
    network::complete(&spec, &mut found);
    domain::complete(&spec, &mut found);
    found.problems
}

/// Rules of a `VirtualMachine` outside its template (vms-admitter.go, pkg/instancetype/find).
fn machine(object: &Value, found: &mut Found) {
    for (field, word) in [("instancetype", "Instancetype"), ("preference", "Preference")] {
        let path = format!("spec.{field}");
        let given = object.text(&format!("{path}.kind"));
        let kinds = [format!("VirtualMachine{word}"), format!("VirtualMachineCluster{word}")];
        // KubeVirt also accepts other case and the plural.
        let is = |kind: &String| {
            let (kind, given) = (kind.to_lowercase(), given.to_lowercase());
            given == kind || given.strip_suffix('s') == Some(&kind)
        };
        if !given.is_empty() && !kinds.iter().any(is) {
            let what = format!("is \"{}\"", short(given));
            found.add(&format!("{path}.kind"), what, format!("use one of: {}", kinds.join(", ")));
        }
        if object.has(&path) && object.text(&format!("{path}.name")).is_empty() {
            let (what, remedy) = if object.text(&format!("{path}.inferFromVolume")).is_empty() {
                ("has no name", "add `name`, or remove the whole reference")
            } else {
                ("is inferred from a volume, which needs a cluster", "set `name` instead")
            };
            found.add(&path, what, remedy);
        }
    }
    if !object.list("spec.dataVolumeTemplates").is_empty() {
        let remedy = "put the image in place yourself: a file for hostDisk, or a podman volume";
        let what = "is ignored: a cluster (CDI) creates these volumes";
        found.note("spec.dataVolumeTemplates", what, remedy);
    }
}

/// The lists whose items have unique names, and what an item is.
const UNIQUE: [(&str, &str); 6] = [
    ("volumes", "volume"),
    ("networks", "network"),
    ("domain.devices.disks", "disk"),
    ("domain.devices.interfaces", "interface"),
    ("domain.devices.gpus", "gpu"),
    ("domain.devices.hostDevices", "hostDevice"),
];

fn unique_names(spec: &Spec<'_>, found: &mut Found) {
    for (list, what) in UNIQUE {
        let mut seen = BTreeSet::new();
        for (path, item) in spec.items(list) {
            let name = item.text("name");
            if !name.is_empty() && !seen.insert(name) {
                let says = format!("is \"{}\", the name of another {what}", short(name));
                found.add(&join(&path, "name"), says, format!("give each {what} its own name"));
            }
        }
    }
}
